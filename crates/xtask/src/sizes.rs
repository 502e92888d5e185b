//! Names files that grow past the size at which a seam is worth looking for. A hint, not a rule.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// Lines of a source file above which it is named.
const LONG_FILE_LINES: usize = 500;

/// Long Rust and protobuf files under `root`, with their lines, longest first.
pub fn long_files(root: &Path) -> Result<Vec<(PathBuf, usize)>> {
    let mut long = Vec::new();
    for file in files_under(root, &["rs", "proto"])? {
        let lines = std::fs::read_to_string(&file)?.lines().count();
        if lines > LONG_FILE_LINES {
            long.push((file.strip_prefix(root).unwrap_or(&file).to_owned(), lines));
        }
    }
    long.sort_by_key(|(file, lines)| (std::cmp::Reverse(*lines), file.clone()));
    Ok(long)
}

/// Files with one of these extensions, without build output, data and hidden folders.
pub fn files_under(root: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if entry.file_type()?.is_dir() {
                let made_here = folder == root && ["target", "data"].contains(&name.as_str());
                if !made_here && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extensions.iter().any(|wanted| extension == *wanted)) {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}
