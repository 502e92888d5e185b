//! Checks that links in Markdown files lead somewhere: to a file or folder that exists, and to a heading in it.

use std::path::Path;

use anyhow::Result;

use crate::sizes::files_under;

/// Every link that leads nowhere, in words.
pub fn broken(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for file in files_under(root, &["md"])? {
        let text = std::fs::read_to_string(&file)?;
        for link in local_links(&text) {
            if !resolves(&file, &text, link) {
                let shown = file.strip_prefix(root).unwrap_or(&file).display();
                found.push(format!("{shown}: the link to {link} leads nowhere"));
            }
        }
    }
    Ok(found)
}

/// Targets of `[text](target)` outside code, without those on other servers.
fn local_links(text: &str) -> Vec<&str> {
    let mut links = Vec::new();
    for line in prose_lines(text) {
        let mut rest = line;
        while let Some((_, after)) = rest.split_once("](") {
            let Some((target, behind)) = after.split_once(')') else { break };
            let target = target.split_whitespace().next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                links.push(target);
            }
            rest = behind;
        }
    }
    links
}

fn prose_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !fence && !in_code
    })
}

fn resolves(file: &Path, text: &str, link: &str) -> bool {
    let (path, heading) = link.split_once('#').map_or((link, None), |(path, heading)| (path, Some(heading)));
    if path.is_empty() {
        return heading.is_some_and(|heading| has_heading(text, heading));
    }
    let target = file.parent().unwrap_or(file).join(path);
    match heading {
        Some(heading) => std::fs::read_to_string(target).is_ok_and(|text| has_heading(&text, heading)),
        None => target.exists(),
    }
}

fn has_heading(text: &str, wanted: &str) -> bool {
    prose_lines(text).filter(|line| line.starts_with('#')).any(|line| anchor(line.trim_start_matches('#')) == wanted)
}

/// The anchor that a forge makes of a heading: lower case, hyphens for blanks, no other punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_code_and_to_other_servers_are_left_alone() {
        let text =
            "see [a](a.md) and [b](https://b.example/x) or [c](c.md#part \"title\")\n```\n[d](d.md)\n```\n[e](#e)";
        assert_eq!(local_links(text), ["a.md", "c.md#part", "#e"]);
    }

    #[test]
    fn headings_are_found_by_their_anchor() {
        let text = "# Life of a request\n\n## Shards, and why\n```\n# not a heading\n```\n";
        assert!(has_heading(text, "life-of-a-request"));
        assert!(has_heading(text, "shards-and-why"));
        assert!(!has_heading(text, "not-a-heading"));
        assert!(resolves(Path::new("x.md"), text, "#shards-and-why"));
        assert!(!resolves(Path::new("x.md"), text, "#gone"));
    }
}
