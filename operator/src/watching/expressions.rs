//! What expressions of Prometheus ask for, as far as it takes to know that it exists: names of metrics, and the labels by which they are chosen.

/// A metric as an expression names it, and the labels in the braces behind it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector<'a> {
    /// The name, of a histogram with its suffix.
    pub metric: &'a str,
    /// Labels that are compared.
    pub labels: Vec<&'a str>,
}

/// All of Weir's metrics in an expression.
#[must_use]
pub fn selectors(expression: &str) -> Vec<Selector<'_>> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find("weir_") {
        let is_whole = !rest[..at].ends_with(is_of_a_name);
        rest = &rest[at..];
        let end = rest.find(|c| !is_of_a_name(c)).unwrap_or(rest.len());
        let (metric, behind) = rest.split_at(end);
        rest = behind;
        if is_whole {
            found.push(Selector {
                metric,
                labels: labels(behind),
            });
        }
    }
    found
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// The labels in the braces that a text begins with.
fn labels(text: &str) -> Vec<&str> {
    let Some((inside, _)) = text.strip_prefix('{').and_then(|text| text.split_once('}')) else {
        return Vec::new();
    };
    let matchers = inside
        .split(',')
        .filter_map(|matcher| matcher.split(['=', '!']).next());
    matchers
        .map(str::trim)
        .filter(|label| !label.is_empty())
        .collect()
}

/// The metric that a series belongs to: those of a histogram have suffixes.
#[must_use]
pub fn family(series: &str, is_histogram: impl Fn(&str) -> bool) -> &str {
    let suffixes = ["_bucket", "_sum", "_count"];
    let base = suffixes
        .iter()
        .find_map(|suffix| series.strip_suffix(suffix));
    base.filter(|base| is_histogram(base)).unwrap_or(series)
}

#[cfg(test)]
mod tests {
    use super::{Selector, family, selectors};

    #[test]
    fn names_and_labels_are_found_wherever_they_stand() {
        let expression =
            "sum by (api) (rate(weir_a_bucket{api=\"x\", pod!~\"y|z\"}[5m])) / weir_b > my_weir_c";
        let expected = [
            Selector {
                metric: "weir_a_bucket",
                labels: vec!["api", "pod"],
            },
            Selector {
                metric: "weir_b",
                labels: vec![],
            },
        ];
        assert_eq!(selectors(expression), expected);
        assert_eq!(family("weir_a_bucket", |name| name == "weir_a"), "weir_a");
        assert_eq!(family("weir_a_count", |_| false), "weir_a_count");
    }
}
