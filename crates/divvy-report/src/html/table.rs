//! A table as HTML: a caption, headings with units that sort when script runs, cells with marks and small intervals. It
//! scrolls sideways by itself, also by keyboard, so the page never does.

use super::escape::{escape, text};
use crate::{
    plot::interval,
    table::{Align, Cell, Column, Table},
};

pub(crate) fn html(table: &Table) -> String {
    let rows: String = table.rows.iter().map(|row| body_row(table, row)).collect();
    let (id, caption) = (table.id, text(&table.caption));
    format!(
        r#"<div class="scroll" role="region" aria-labelledby="{id}-caption" tabindex="0"><table id="{id}" class="data"><caption id="{id}-caption">{caption}</caption><thead>{}{}</thead><tbody>{rows}</tbody></table></div>"#,
        group_row(&table.columns),
        head_row(&table.columns),
    )
}

/// The row above the headings; left out when no column has a group.
fn group_row(columns: &[Column]) -> String {
    if columns.iter().all(|column| column.group.is_empty()) {
        return String::new();
    }
    let cell = |run: &[Column]| {
        let (group, span) = (run[0].group, run.len());
        if group.is_empty() {
            format!(r#"<td colspan="{span}"></td>"#)
        } else {
            format!(r#"<th scope="colgroup" colspan="{span}"><span>{}</span></th>"#, text(group))
        }
    };
    format!(r#"<tr class="groups">{}</tr>"#, columns.chunk_by(|a, b| a.group == b.group).map(cell).collect::<String>())
}

fn head_row(columns: &[Column]) -> String {
    let cell = |column: &Column| {
        let unit = match column.unit {
            "" => String::new(),
            unit => format!(r#" <small>{}</small>"#, text(unit)),
        };
        format!(
            r#"<th scope="col"{}><span class="head">{}{unit}</span></th>"#,
            align(column.align),
            text(&column.title)
        )
    };
    format!(r#"<tr class="heads">{}</tr>"#, columns.iter().map(cell).collect::<String>())
}

fn body_row(table: &Table, row: &[Cell]) -> String {
    let cells = row.iter().zip(&table.columns).enumerate().map(|(index, (cell, column))| match index {
        0 => format!(r#"<th scope="row"{}>{}</th>"#, key(cell), content(cell)),
        _ => format!("<td{}{}>{}</td>", align(column.align), key(cell), content(cell)),
    });
    format!("<tr>{}</tr>", cells.collect::<String>())
}

fn content(cell: &Cell) -> String {
    let mark = cell.mark.map(|class| format!(r#"<i class="mark {class}" aria-hidden="true"></i>"#)).unwrap_or_default();
    let bar =
        cell.bar.as_ref().map(|bar| format!(r#"<span class="bar" aria-hidden="true">{}</span>"#, interval::draw(bar)));
    format!("{mark}{}{}", breakable(&cell.text), bar.unwrap_or_default())
}

/// Slugs may break after a slash.
fn breakable(content: &str) -> String {
    text(content).replace('/', "/<wbr>")
}

fn key(cell: &Cell) -> String {
    cell.number.map(|number| format!(r#" data-sort="{}""#, escape(&number.to_string()))).unwrap_or_default()
}

fn align(align: Align) -> &'static str {
    match align {
        Align::Left => "",
        Align::Right => r#" class="number""#,
    }
}
