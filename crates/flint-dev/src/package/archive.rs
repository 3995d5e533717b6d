//! A tree becomes the bytes of a zip archive. Files that a package manager installed are compressed once: their compressed
//! form is kept beside them, so that a change of a handler does not compress a hundred megabytes of packages again.

use std::fs;
use std::io::{Cursor, Write as _};
use std::path::PathBuf;

use base64::Engine as _;
use sha2::{Digest as _, Sha256};
use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use super::cache::Installed;
use super::{Kind, Package, Tree, UNZIPPED_BYTES_MAX, ZIPPED_BYTES_MAX};
use crate::Error;

/// The files of an installed folder in their compressed form.
#[derive(Debug)]
pub(super) struct Compressed {
    dir: PathBuf,
    archive: ZipArchive<Cursor<Vec<u8>>>,
}

/// The compressed form of a folder that is kept; made if it is not there. `None` for a folder that goes away.
pub(super) fn compressed(installed: &Installed) -> Result<Option<Compressed>, Error> {
    let Installed::Cached(dir) = installed else { return Ok(None) };
    let path = dir.with_extension("zip");
    let kept = fs::read(&path).ok().and_then(|bytes| ZipArchive::new(Cursor::new(bytes)).ok());
    if let Some(archive) = kept {
        return Ok(Some(Compressed { dir: dir.clone(), archive }));
    }
    let mut tree = Tree::new();
    tree.add_installed(dir)?;
    let bytes = written(&tree, None)?.0;
    // Whole or not at all; if it cannot be kept, the next time compresses again.
    if let Ok(mut file) = tempfile::NamedTempFile::new_in(dir.parent().unwrap_or(dir))
        && file.write_all(&bytes).is_ok()
    {
        drop(file.persist(&path));
    }
    let archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    Ok(Some(Compressed { dir: dir.clone(), archive }))
}

/// The package of a tree.
pub(super) fn zip(tree: &Tree, compressed: Option<Compressed>) -> Result<Package, Error> {
    let (zip, unzipped_bytes) = written(tree, compressed)?;
    if zip.len() as u64 > ZIPPED_BYTES_MAX {
        return Err(too_large("zipped", zip.len() as u64, ZIPPED_BYTES_MAX));
    }
    let sha256_base64 = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(&zip));
    Ok(Package { zip, sha256_base64, files: tree.entries().len(), unzipped_bytes })
}

/// The archive's bytes, and how many they are unzipped.
fn written(tree: &Tree, mut compressed: Option<Compressed>) -> Result<(Vec<u8>, u64), Error> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let mut unzipped = 0;
    for (name, entry) in tree.entries() {
        // 1980-01-01, the earliest that the format knows, for all files: a checkout's times say nothing.
        let options = SimpleFileOptions::default().last_modified_time(zip::DateTime::default());
        match &entry.kind {
            Kind::File { executable } => {
                let kept = compressed.as_mut().filter(|c| entry.source.starts_with(&c.dir));
                if let Some(file) = kept.and_then(|c| c.archive.by_name_raw(name.as_bytes()).ok()) {
                    unzipped += file.size();
                    archive.raw_copy_file(file).map_err(broken)?;
                } else {
                    let content = fs::read(&entry.source).map_err(Error::file(&entry.source))?;
                    unzipped += content.len() as u64;
                    let mode = if *executable { 0o755 } else { 0o644 };
                    archive.start_file(name, options.unix_permissions(mode)).map_err(broken)?;
                    archive.write_all(&content).map_err(Error::file(&entry.source))?;
                }
                if unzipped > UNZIPPED_BYTES_MAX {
                    return Err(too_large("or more unzipped", unzipped, UNZIPPED_BYTES_MAX));
                }
            }
            Kind::Link { to } => archive.add_symlink(name, to, options).map_err(broken)?,
        }
    }
    Ok((archive.finish().map_err(broken)?.into_inner(), unzipped))
}

fn too_large(what: &str, bytes: u64, limit: u64) -> Error {
    let size = |bytes| flint_model::ByteCount(bytes).to_string();
    Error::Package {
        reason: format!("is {} {what}; the limit is {}", size(bytes), size(limit)),
        hint: "leave out what the function does not need; larger files can come from a store at run time".into(),
    }
}

fn broken(error: ZipError) -> Error {
    Error::Package { reason: format!("cannot be written: {error}"), hint: String::new() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn kept_files_give_the_same_bytes() {
        let app = tempfile::tempdir().unwrap();
        let dir = app.path().join("cache/0123");
        fs::create_dir_all(dir.join("pkg")).unwrap();
        fs::write(dir.join("pkg/a.py"), "a".repeat(10_000)).unwrap();
        fs::write(dir.join("pkg/tool"), "#!/bin/sh").unwrap();
        fs::set_permissions(dir.join("pkg/tool"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(app.path().join("src")).unwrap();
        let build = |text: &str| {
            fs::write(app.path().join("src/app.py"), text).unwrap();
            let mut tree = Tree::new();
            tree.add_installed(&dir).unwrap();
            tree.add_app(&app.path().join("src"), &[]).unwrap();
            zip(&tree, compressed(&Installed::Cached(dir.clone())).unwrap()).unwrap()
        };
        let first = build("1");
        assert!(dir.with_extension("zip").is_file());
        assert_eq!(build("1"), first);
        assert_ne!(build("2").sha256_base64, first.sha256_base64);
        // What is damaged is made anew.
        fs::write(dir.with_extension("zip"), "no archive").unwrap();
        assert_eq!(build("1"), first);

        let mut archive = ZipArchive::new(Cursor::new(first.zip)).unwrap();
        let modes: Vec<_> = (0..archive.len())
            .map(|i| {
                let file = archive.by_index(i).unwrap();
                (file.name().unwrap().into_owned(), file.unix_mode().unwrap() & 0o777)
            })
            .collect();
        let expected = [("app.py", 0o644), ("pkg/a.py", 0o644), ("pkg/tool", 0o755)];
        assert_eq!(modes, expected.map(|(name, mode)| (name.to_owned(), mode)));
    }
}
