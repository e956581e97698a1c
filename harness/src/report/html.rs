//! The page: one file with every table and plot, without scripts and without a network.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    headline::{self, HOW_TO_READ},
    outcomes,
    plot::{DARK, Drawing, LIGHT},
    sheets::Source,
    table::Sheet,
};

const STYLE: &str = include_str!("page.css");

/// The whole file.
pub(super) fn page(source: Source<'_>, tables: &[Sheet], plots: &[Drawing]) -> String {
    let style = format!(
        ":root{{color-scheme:light dark;{LIGHT}}}\
         @media(prefers-color-scheme:dark){{:root{{{DARK}}}}}\n{STYLE}"
    );
    let (glance, rest) = split(tables);
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                link rel="icon" href="data:,";
                title { "Results of the harness" }
                style { (PreEscaped(style)) }
            }
            body {
                header {
                    h1 { "Results of the harness" }
                    @for warning in headline::warnings(source.env, source.rows) {
                        p.warning { (warning) }
                    }
                }
                main {
                    @for table in glance { (section(table)) }
                    section.plots id="plots" {
                        h2 { "Plots" }
                        div.gallery { @for plot in plots { (figure(plot)) } }
                    }
                    @for table in rest { (section(table)) }
                    (list("What is unfair about these numbers", &headline::unfair(source)))
                    (list("How to read them", &HOW_TO_READ.map(String::from)))
                    (section(&outcomes::transports(source.env)))
                    (stamp(source))
                }
            }
        }
    };
    markup.into_string() + "\n"
}

/// The headline's tables, and the others.
fn split(tables: &[Sheet]) -> (&[Sheet], &[Sheet]) {
    let count = tables.iter().take_while(|table| table.is_headline).count();
    tables.split_at(count)
}

fn section(table: &Sheet) -> Markup {
    html! { section { h2 { (table.title) } (table.page()) } }
}

/// The drawing was made here and by the library that escapes its labels.
fn figure(plot: &Drawing) -> Markup {
    html! { figure { (PreEscaped(plot.inline())) } }
}

fn list(title: &str, items: &[String]) -> Markup {
    html! { section.words { h2 { (title) } ul { @for item in items { li { (item) } } } } }
}

fn stamp(source: Source<'_>) -> Markup {
    html! {
        section.words {
            h2 { "Where they come from" }
            dl {
                @for (what, value) in headline::stamp(source.env) { dt { (what) } dd { (value) } }
            }
            p.note {
                "The raw rows are in runs.jsonl beside this file, the figures in summary.csv."
            }
        }
    }
}
