//! Go's `text/tabwriter` as Docker uses it: spaces, left aligned, a column lasts as long as
//! consecutive lines have a tab-terminated cell in it.

use unicode_width::UnicodeWidthChar;

/// Aligns tab-separated cells. `min_width` is the least width of a column, `padding` the spaces after its widest cell.
pub fn align(text: &str, min_width: usize, padding: usize) -> String {
    let (body, last) = match text.strip_suffix('\n') {
        Some(body) => (body, "\n"),
        None => (text, ""),
    };
    let lines: Vec<Vec<&str>> = body
        .split('\n')
        .map(|line| line.split('\t').collect())
        .collect();
    let mut table = Table {
        lines: &lines,
        min_width,
        padding,
        widths: Vec::new(),
        out: String::with_capacity(text.len() * 2),
    };
    table.format(0, lines.len());
    table.out.pop();
    table.out.push_str(last);
    table.out
}

/// The tables of Docker's formatter: columns of at least 10, three spaces between.
pub fn docker(text: &str) -> String {
    align(text, 10, 3)
}

/// Columns of a terminal that `text` takes: wide characters count two, as Docker's writer counts.
pub fn display_width(text: &str) -> usize {
    text.chars().map(|c| c.width().unwrap_or(1).max(1)).sum()
}

struct Table<'a> {
    lines: &'a [Vec<&'a str>],
    min_width: usize,
    padding: usize,
    widths: Vec<usize>,
    out: String,
}

impl Table<'_> {
    /// Formats lines `from..to`, whose first `widths.len()` columns are settled.
    fn format(&mut self, from: usize, to: usize) {
        let column = self.widths.len();
        let (mut start, mut this) = (from, from);
        while this < to {
            if column + 1 >= self.lines[this].len() {
                this += 1;
                continue;
            }
            self.write(start, this);
            start = this;
            let mut width = self.min_width;
            while this < to && column + 1 < self.lines[this].len() {
                width = width.max(display_width(self.lines[this][column]) + self.padding);
                this += 1;
            }
            self.widths.push(width);
            self.format(start, this);
            self.widths.pop();
            start = this;
        }
        self.write(start, to);
    }

    fn write(&mut self, from: usize, to: usize) {
        for line in &self.lines[from..to] {
            for (index, cell) in line.iter().enumerate() {
                self.out.push_str(cell);
                if let Some(width) = self.widths.get(index) {
                    let missing = width.saturating_sub(display_width(cell));
                    self.out.extend(std::iter::repeat_n(' ', missing));
                }
            }
            self.out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_as_docker_prints_them() {
        let text = "NAME\tDESCRIPTION\tDOCKER ENDPOINT\tERROR\ndefault *\tCurrent DOCKER_HOST based configuration\tunix:///var/run/docker.sock\t\n";
        assert_eq!(
            docker(text),
            "NAME        DESCRIPTION                               DOCKER ENDPOINT               ERROR\n\
             default *   Current DOCKER_HOST based configuration   unix:///var/run/docker.sock   \n"
        );
    }

    #[test]
    fn a_line_without_the_column_ends_it() {
        assert_eq!(
            align("a\tb\nlonger than that\nccc\td\n", 2, 1),
            "a b\nlonger than that\nccc d\n"
        );
    }

    proptest! {
        #[test]
        fn keeps_every_line(text in "[a-z\t\n]{0,60}") {
            prop_assert_eq!(align(&text, 10, 3).matches('\n').count(), text.matches('\n').count());
        }
    }
}
