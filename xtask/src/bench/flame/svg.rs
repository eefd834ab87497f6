//! A flame graph as a picture that needs nothing but a browser: what a function calls stands on it, its width is its time.

use super::stacks::{KERNEL, Stacks};
use std::collections::BTreeMap;
use std::fmt::Write;

const WIDTH: f64 = 1600.0;
const ROW: f64 = 16.0;
/// What is narrower cannot be seen.
const NARROWEST: f64 = 0.5;
/// Of a letter.
const LETTER: f64 = 6.6;

#[derive(Default)]
struct Node {
    time: u64,
    calls: BTreeMap<String, Node>,
}

impl Node {
    fn of(stacks: &Stacks) -> Self {
        let mut root = Self::default();
        for (stack, time) in stacks.iter() {
            let mut node = &mut root;
            node.time += time;
            for function in stack {
                node = node.calls.entry(function.clone()).or_default();
                node.time += time;
            }
        }
        root
    }

    fn depth(&self) -> usize {
        1 + self.calls.values().map(Self::depth).max().unwrap_or(0)
    }
}

/// The picture.
pub(super) fn draw(title: &str, stacks: &Stacks) -> String {
    let root = Node::of(stacks);
    let height = (root.depth() + 1) as f64 * ROW;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    let scale = WIDTH / root.time.max(1) as f64;
    let picture = Picture {
        scale,
        total: root.time.max(1) as f64,
        bottom: height - ROW,
    };
    picture.node(&mut out, title, &root, 0.0, 0);
    out + "</svg>\n"
}

struct Picture {
    /// Width of a nanosecond.
    scale: f64,
    total: f64,
    /// Where the lowest row begins.
    bottom: f64,
}

impl Picture {
    fn node(&self, out: &mut String, name: &str, node: &Node, left: f64, depth: usize) {
        let width = node.time as f64 * self.scale;
        if width < NARROWEST {
            return;
        }
        let top = self.bottom - depth as f64 * ROW;
        let share = node.time as f64 / self.total * 100.0;
        let letters = (width / LETTER) as usize;
        let shown: String = if letters < 3 {
            String::new()
        } else {
            name.chars().take(letters).collect()
        };
        let _ = writeln!(
            out,
            "<g><title>{} ({share:.2} %)</title><rect x=\"{left:.1}\" y=\"{top:.0}\" width=\"{width:.1}\" height=\"{:.0}\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.0}\">{}</text></g>",
            escaped(name),
            ROW - 1.0,
            colour(name),
            left + 2.0,
            top + 11.0,
            escaped(&shown)
        );
        let mut next = left;
        for (name, call) in &node.calls {
            self.node(out, name, call, next, depth + 1);
            next += call.time as f64 * self.scale;
        }
    }
}

/// Weir's own functions, the kernel's, and everybody else's are told apart.
fn colour(name: &str) -> &'static str {
    if name.ends_with(KERNEL) {
        "#f2a65a"
    } else if name.contains("weir_") {
        "#7fb7e6"
    } else {
        "#dddddd"
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
