//! On which line of a manifest a field is: a rough reading of YAML's indentation, good enough to point a person at
//! the place. Where the field itself is not found (it is missing, or written in braces), the line of its nearest
//! parent.

/// The line, from 1, of a field such as `spec.blockSize` or `spec.rules[2].cidr`.
pub(crate) fn line_of(text: &str, field: &str) -> Option<usize> {
    let lines: Vec<Line<'_>> = text.lines().enumerate().filter_map(Line::new).collect();
    let mut inside = lines.as_slice();
    let mut found = None;
    for step in steps(field) {
        let Some((number, rest)) = step.find(inside) else {
            break;
        };
        found = Some(number);
        inside = rest;
    }
    found
}

/// A line with its indentation; an item of a list is indented as if the dash were a blank.
struct Line<'a> {
    number: usize,
    indent: usize,
    dash: Option<usize>,
    text: &'a str,
}

impl<'a> Line<'a> {
    fn new((index, line): (usize, &'a str)) -> Option<Self> {
        let mut text = line.trim_start();
        let mut indent = line.len() - text.len();
        let mut dash = None;
        while let Some(item) = text
            .strip_prefix('-')
            .filter(|item| item.is_empty() || item.starts_with(' '))
        {
            dash = dash.or(Some(indent));
            let trimmed = item.trim_start();
            indent += text.len() - trimmed.len();
            text = trimmed;
        }
        let blank = (text.is_empty() && dash.is_none()) || text.starts_with('#') || line.starts_with("---");
        (!blank).then_some(Line {
            number: index + 1,
            indent,
            dash,
            text,
        })
    }

    fn outer(&self) -> usize {
        self.dash.unwrap_or(self.indent)
    }
}

enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

fn steps(field: &str) -> Vec<Step<'_>> {
    field
        .split(['.', '['])
        .map(
            |step| match step.strip_suffix(']').and_then(|index| index.parse().ok()) {
                Some(index) => Step::Item(index),
                None => Step::Key(step),
            },
        )
        .collect()
}

impl Step<'_> {
    /// The line of the step within a block, and the block below it.
    fn find<'l, 't>(&self, block: &'l [Line<'t>]) -> Option<(usize, &'l [Line<'t>])> {
        match self {
            Step::Key(key) => {
                let level = block.iter().map(|line| line.indent).min()?;
                let at = block.iter().position(|line| {
                    let name = line.text.split(':').next().unwrap_or_default();
                    line.indent == level && name.trim_matches(['"', '\'']) == *key
                })?;
                let below = block.get(at + 1..)?;
                // A list may be indented no deeper than its key.
                let end = below
                    .iter()
                    .position(|line| line.indent <= level || (line.dash.is_some_and(|dash| dash < level)));
                Some((block.get(at)?.number, below.get(..end.unwrap_or(below.len()))?))
            }
            Step::Item(index) => {
                let level = block.iter().filter_map(|line| line.dash).min()?;
                let mut items = block
                    .iter()
                    .enumerate()
                    .filter(|(_, line)| line.dash == Some(level));
                let (start, line) = items.nth(*index)?;
                let rest = block.get(start..)?;
                let end = rest.iter().skip(1).position(|line| line.outer() <= level);
                Some((line.number, rest.get(..end.map_or(rest.len(), |end| end + 1))?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::line_of;

    const TEXT: &str = "\
# a pool
apiVersion: v1
metadata:
  name: x
  labels: {a: b}

spec:
  name: other
  rules:
  - cidr: 10.0.0.0/8
    action: Accept
  # between
  - action: Reject
    cidr: 11.0.0.0/8
  \"last\": 1
";

    #[test]
    fn fields_are_found_at_their_own_level() {
        for (field, line) in [
            ("apiVersion", Some(2)),
            ("metadata.name", Some(4)),
            ("metadata.labels.a", Some(5)),
            ("spec.name", Some(8)),
            ("spec.rules", Some(9)),
            ("spec.rules[0].cidr", Some(10)),
            ("spec.rules[1].cidr", Some(14)),
            ("spec.rules[1].missing", Some(13)),
            ("spec.rules[7]", Some(9)),
            ("spec.last", Some(15)),
            ("spec.missing", Some(7)),
            ("nothing", None),
            ("", None),
        ] {
            assert_eq!(line_of(TEXT, field), line, "{field}");
        }
    }
}
