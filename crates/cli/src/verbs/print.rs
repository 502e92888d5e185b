//! Results as aligned columns for people, or as one JSON document for programs.

use std::io::Write;

use anyhow::Result;
use serde_json::Value;

use crate::flags::Output;

/// Prints records that all have the same columns.
pub fn records(output: Output, columns: &[&str], records: &[Vec<Value>]) -> Result<()> {
    text(&rendered(output, columns, records)?)
}

/// Records as they are printed.
pub fn rendered(output: Output, columns: &[&str], records: &[Vec<Value>]) -> Result<String> {
    let object = |record: &Vec<Value>| {
        let pairs = columns.iter().map(|column| (*column).to_owned()).zip(record.iter().cloned());
        Value::Object(pairs.collect())
    };
    match output {
        Output::Json => document(&Value::Array(records.iter().map(object).collect())),
        Output::Table => Ok(table(columns, records)),
    }
}

/// One JSON document as it is printed.
pub fn document(value: &Value) -> Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Prints one line of a stream, at once.
pub fn line(line: &str) -> Result<()> {
    text(&format!("{line}\n"))
}

/// Prints text that has its line ends, at once.
pub fn text(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Names and their values, one a line.
pub fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let line = |(name, value): &(&str, String)| format!("{name:<width$}  {value}").trim_end().to_owned() + "\n";
    fields.iter().map(line).collect()
}

/// Records in columns as wide as their widest cell.
pub fn table(columns: &[&str], records: &[Vec<Value>]) -> String {
    let head: Vec<String> = columns.iter().map(|column| column.to_uppercase().replace('_', " ")).collect();
    let rows: Vec<Vec<String>> = records.iter().map(|record| record.iter().map(cell).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| &row[column]).chain([&head[column]]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |cells: &Vec<String>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    std::iter::once(&head).chain(&rows).map(line).collect()
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let records = [vec![json!("rooms/a"), json!(12)], vec![json!("rooms/longer"), Value::Null]];
        assert_eq!(table(&["name", "size"], &records), "NAME          SIZE\nrooms/a       12\nrooms/longer  -\n");
    }
}
