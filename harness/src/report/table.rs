//! A table that is printed three times: for a terminal, as Markdown, and on the page.

use comfy_table::{CellAlignment, Table, presets};
use maud::{Markup, html};

/// What a cell says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    /// On a terminal.
    pub(super) short: String,
    /// Everywhere else.
    pub(super) long: String,
}

impl<T: Into<String>> From<T> for Text {
    fn from(text: T) -> Text {
        let text = text.into();
        Text { short: text.clone(), long: text }
    }
}

/// One table.
#[derive(Clone, Debug)]
pub(super) struct Sheet {
    pub(super) title: String,
    head: Vec<String>,
    /// Columns that are too much for a terminal.
    detail: Vec<&'static str>,
    pub(super) body: Vec<Vec<Text>>,
    /// What is no channel between processes, under a line.
    pub(super) floors: Vec<Vec<Text>>,
    pub(super) notes: Vec<String>,
    /// Notes for which a terminal has no room.
    asides: Vec<String>,
    /// Whether it belongs above everything else.
    pub(super) is_headline: bool,
    /// Whether it is too much for a terminal.
    pub(super) is_detail: bool,
}

impl Sheet {
    pub(super) fn new(title: impl Into<String>, head: &[impl AsRef<str>]) -> Sheet {
        Sheet {
            title: title.into(),
            head: head.iter().map(|word| word.as_ref().to_owned()).collect(),
            detail: Vec::new(),
            body: Vec::new(),
            floors: Vec::new(),
            notes: Vec::new(),
            asides: Vec::new(),
            is_headline: false,
            is_detail: false,
        }
    }

    /// Leaves these columns out on a terminal.
    pub(super) fn detail(mut self, columns: &[&'static str]) -> Sheet {
        self.detail = columns.to_vec();
        self
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Says this everywhere but on a terminal.
    pub(super) fn aside(&mut self, aside: impl Into<String>) {
        self.asides.push(aside.into());
    }

    /// Itself, if there is anything in it.
    pub(super) fn filled(self) -> Option<Sheet> {
        (!self.body.is_empty() || !self.floors.is_empty()).then_some(self)
    }

    /// For a terminal.
    pub(super) fn screen(&self) -> String {
        let is_shown = |at: usize| !self.detail.contains(&self.head[at].as_str());
        let shown = |cells: &[Text]| -> Vec<String> {
            let cells = cells.iter().enumerate().filter(|&(at, _)| is_shown(at));
            cells.map(|(_, cell)| cell.short.clone()).collect()
        };
        let head: Vec<Text> = self.head.iter().map(|word| word.as_str().into()).collect();
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(shown(&head));
        table.add_rows(self.body.iter().map(|cells| shown(cells)));
        if !self.floors.is_empty() {
            table.add_row(vec!["floors:"]);
        }
        table.add_rows(self.floors.iter().map(|cells| shown(cells)));
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = format!("\n{}\n{}", self.title, table.trim_fmt());
        for note in &self.notes {
            text += "\n ";
            text += note;
        }
        text
    }

    /// With a heading of this level.
    pub(super) fn markdown(&self, level: usize) -> String {
        format!("{} {}\n\n{}", "#".repeat(level), self.title, self.bare_markdown())
    }

    /// Without a heading.
    pub(super) fn bare_markdown(&self) -> String {
        let row = |cells: &[Text]| {
            let cells: Vec<_> = cells.iter().map(|cell| cell.long.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let mut text = format!("| {} |\n", self.head.join(" | "));
        text += &format!("|---|{}\n", "---:|".repeat(self.head.len() - 1));
        text.extend(self.body.iter().map(|cells| row(cells)));
        if !self.floors.is_empty() {
            text += &format!("| *floors* |{}\n", " |".repeat(self.head.len() - 1));
        }
        text.extend(self.floors.iter().map(|cells| row(cells)));
        text += "\n";
        for note in self.notes.iter().chain(&self.asides) {
            text += &format!("{note}\n\n");
        }
        text
    }

    /// For the page.
    pub(super) fn page(&self) -> Markup {
        let row = |cells: &[Text]| {
            html! {
                tr {
                    @for (at, cell) in cells.iter().enumerate() {
                        @if at == 0 { th scope="row" { (cell.long) } } @else { td { (cell.long) } }
                    }
                }
            }
        };
        html! {
            div.scroll tabindex="0" role="region" aria-label=(self.title) {
                table {
                    thead { tr { @for word in &self.head { th scope="col" { (word) } } } }
                    tbody { @for cells in &self.body { (row(cells)) } }
                    @if !self.floors.is_empty() {
                        tbody.floors { @for cells in &self.floors { (row(cells)) } }
                    }
                }
            }
            @for note in self.notes.iter().chain(&self.asides) { p.note { (note) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sheet() -> Sheet {
        let mut sheet = Sheet::new("Speed", &["transport", "msg/s", "spread"]).detail(&["spread"]);
        sheet.body.push(vec![
            "a|b".into(),
            Text { short: "1".into(), long: "1 of 2".into() },
            "<".into(),
        ]);
        sheet.floors.push(vec!["null".into(), "9".into(), "-".into()]);
        sheet.note("A & B.");
        sheet
    }

    #[test]
    fn markdown_keeps_its_columns_whatever_is_in_them() {
        let expected = "## Speed\n\n\
            | transport | msg/s | spread |\n|---|---:|---:|\n\
            | a\\|b | 1 of 2 | < |\n| *floors* | | |\n| null | 9 | - |\n\nA & B.\n\n";
        assert_eq!(sheet().markdown(2), expected);
    }

    #[test]
    fn a_terminal_gets_the_short_words_and_fewer_columns() {
        let screen = sheet().screen();
        assert!(!screen.contains("spread") && !screen.contains("of 2"), "{screen}");
        assert!(screen.contains("floors") && screen.ends_with("\n A & B."), "{screen}");
    }

    #[test]
    fn the_page_escapes_what_it_is_given() {
        let page = sheet().page().into_string();
        assert!(page.contains("&lt;") && page.contains("A &amp; B."), "{page}");
        assert!(page.contains("<tbody class=\"floors\">"), "{page}");
    }
}
