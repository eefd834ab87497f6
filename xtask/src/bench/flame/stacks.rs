//! Stacks as `perf script` tells them, and what they add up to.

use std::collections::{BTreeMap, BTreeSet};

/// Nanoseconds of CPU by stack; a stack begins with the thread's name and ends with the function that ran.
pub(super) struct Stacks(BTreeMap<Vec<String>, u64>);

impl Stacks {
    /// Takes samples as paragraphs: a line with the thread and the nanoseconds, then a line for each function, innermost first.
    pub(super) fn parse(told: &str) -> Self {
        let mut stacks = BTreeMap::new();
        for sample in told.split("\n\n") {
            let mut lines = sample.lines().filter(|line| !line.is_empty());
            let Some((thread, time)) = lines.next().and_then(head) else {
                continue;
            };
            let mut stack: Vec<String> = lines.filter_map(function).collect();
            stack.push(thread.to_owned());
            stack.reverse();
            *stacks.entry(stack).or_default() += time;
        }
        Self(stacks)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[String], u64)> {
        self.0.iter().map(|(stack, time)| (stack.as_slice(), *time))
    }

    pub(super) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// One line for each stack, as flame-graph tools read them.
    pub(super) fn folded(&self) -> String {
        self.iter()
            .map(|(stack, time)| format!("{} {time}\n", stack.join(";")))
            .collect()
    }

    /// By thread, the busiest first.
    pub(super) fn by_thread(&self) -> Vec<(String, u64)> {
        ranked(self.iter().map(|(stack, time)| (stack[0].clone(), time)))
    }

    /// By the function that ran, the busiest first.
    pub(super) fn own(&self) -> Vec<(String, u64)> {
        ranked(
            self.iter()
                .map(|(stack, time)| (stack[stack.len() - 1].clone(), time)),
        )
    }

    /// By all functions on the stack that are wanted, each with what it calls, the busiest first.
    pub(super) fn caused(&self, wanted: impl Fn(&str) -> bool) -> Vec<(String, u64)> {
        ranked(self.iter().flat_map(|(stack, time)| {
            let functions: BTreeSet<&String> = stack[1..]
                .iter()
                .filter(|function| wanted(function))
                .collect();
            functions
                .into_iter()
                .map(move |function| (function.clone(), time))
                .collect::<Vec<_>>()
        }))
    }
}

fn ranked(times: impl Iterator<Item = (String, u64)>) -> Vec<(String, u64)> {
    let mut sums = BTreeMap::<String, u64>::new();
    for (name, time) in times {
        *sums.entry(name).or_default() += time;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    sums
}

/// The thread's name, which may hold spaces, and the time that a sample stands for.
fn head(line: &str) -> Option<(&str, u64)> {
    let (thread, time) = line.trim_end().rsplit_once(' ')?;
    Some((thread.trim(), time.parse().ok()?))
}

/// A function's name without what the compiler added to it; addresses that nobody can name are left out. Functions of the kernel
/// are marked.
fn function(line: &str) -> Option<String> {
    let (address, name) = line.trim().split_once(' ')?;
    if name == "[unknown]" {
        return None;
    }
    // A semicolon would end the name in folded stacks.
    let mut name = name.replace(';', ",");
    if let Some((before, hash)) = name.rsplit_once("::h")
        && hash.len() == 16
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        name.truncate(before.len());
    }
    if address.len() == 16 && address.starts_with("ffff") {
        name.push_str(KERNEL);
    }
    Some(name)
}

/// Ends the names of functions of the kernel.
pub(super) const KERNEL: &str = " [kernel]";

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "\
tokio worker      2000000 
\tffffffff81b6ab30 _copy_to_iter
\tffffffff821ed511 do_syscall_64
\t          802f72 weir_broker::net::read::h0123456789abcdef
\tffffffffffffffff [unknown]

lane-0      1000000 
\t          802f72 weir_log::lane::LaneCore::turn
\t          802f70 weir_log::lane::LaneCore::turn

";

    #[test]
    fn a_stack_begins_with_its_thread_and_ends_with_what_ran() {
        let stacks = Stacks::parse(TOLD);
        assert_eq!(
            stacks.folded(),
            "lane-0;weir_log::lane::LaneCore::turn;weir_log::lane::LaneCore::turn 1000000\n\
             tokio worker;weir_broker::net::read;do_syscall_64 [kernel];_copy_to_iter [kernel] 2000000\n"
        );
        assert_eq!(stacks.total(), 3_000_000);
        assert_eq!(
            stacks.by_thread()[0],
            ("tokio worker".to_owned(), 2_000_000)
        );
        assert_eq!(stacks.own()[0].0, "_copy_to_iter [kernel]");
    }

    #[test]
    fn a_function_that_calls_itself_is_counted_once() {
        let caused = Stacks::parse(TOLD).caused(|name| name.starts_with("weir_log"));
        assert_eq!(
            caused,
            [("weir_log::lane::LaneCore::turn".to_owned(), 1_000_000)]
        );
    }
}
