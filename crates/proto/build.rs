//! Compiles every `.proto` file of the repository with protox, so that nobody needs to install a protoc.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use prost_types::FileDescriptorSet;
use protox::prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    // A directory is watched with all it holds, so a new file is picked up without a line here.
    println!("cargo::rerun-if-changed={}", root.display());

    let all = compile(&root, &protos_under(&root.join("conclave"))?)?;
    let public = compile(&root, &protos_under(&root.join("conclave/v1"))?)?;
    fs::write(out.join("public_with_comments.binpb"), public.encode_to_vec())?;
    fs::write(out.join("public.binpb"), without_source_info(public).encode_to_vec())?;

    tonic_prost_build::configure()
        // Clients are made from a channel the caller already has; a generated `connect` would also clash with the
        // method of that name.
        .build_transport(false)
        .bytes(".")
        .btree_map(".")
        .codec_path("crate::codec::MessageCodec")
        // The error model is tonic-types' own, so its helpers read and write our frames too.
        .extern_path(".google.rpc", "::tonic_types::pb")
        // Events are encoded once for all who receive them.
        .extern_path(".conclave.v1.EventBatch", "crate::events::EventBatch")
        .compile_fds(all)?;
    Ok(())
}

fn protos_under(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "proto") {
                found.push(path);
            }
        }
    }
    // The order of a directory listing differs between machines; the descriptor must not.
    found.sort();
    Ok(found)
}

fn compile(root: &Path, files: &[PathBuf]) -> Result<FileDescriptorSet, Box<dyn Error>> {
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    Ok(compiler.file_descriptor_set())
}

/// What the wire depends on: comments and positions may change freely.
fn without_source_info(mut set: FileDescriptorSet) -> FileDescriptorSet {
    for file in &mut set.file {
        file.source_code_info = None;
    }
    set
}
