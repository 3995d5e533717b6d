//! Archives of functions.

use std::io::Write;

use anyhow::Result;

/// An archive of one executable file.
pub fn zipped(name: &str, content: &[u8]) -> Result<Vec<u8>> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    archive.start_file(name, zip::write::SimpleFileOptions::default().unix_permissions(0o755))?;
    archive.write_all(content)?;
    Ok(archive.finish()?.into_inner())
}
