//! A disk of a host: an ext4 filesystem in an image file.
//!
//! A power cut is the filesystem's shutdown ioctl in its mode without a flush of the journal: from then on nothing more
//! reaches the image, and after mounting it again only what was synced is there. The same ioctl with the process left
//! alive is a disk that answers every call with EIO. The ioctl is made by perl, which Debian's base system includes:
//! every way from Rust takes unsafe code.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::tools::tool;

/// Opens all of its arguments, then shuts all of their filesystems down, as close together as can be.
/// 0x8004587d is `_IOR('X', 125, u32)`, and mode 2 takes effect without flushing the journal.
const SHUT_DOWN: &str = r#"
    my @files = map { open(my $file, "<", $_) or die "$_: $!\n"; $file } @ARGV;
    for my $file (@files) { my $mode = pack("L", 2); ioctl($file, 0x8004587d, $mode) or die "shutdown: $!\n" }
"#;
/// How long a filesystem may stay in use after the last process on it was reaped.
const UNMOUNT_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mounted_at: PathBuf,
}

impl Disk {
    /// Makes and mounts a disk of this size; the image takes up what is written to it.
    pub fn new(folder: &Path, name: &str, mib: u64) -> Result<Disk> {
        let disk = Disk { image: folder.join(format!("{name}.ext4")), mounted_at: folder.join(name) };
        File::create_new(&disk.image)?.set_len(mib << 20)?;
        // Without room reserved for the administrator, whom the tests run as: full is full.
        tool("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), "-m".as_ref(), "0".as_ref(), disk.image.as_os_str()])?;
        std::fs::create_dir(&disk.mounted_at)?;
        disk.mount()?;
        Ok(disk)
    }

    pub fn path(&self) -> &Path {
        &self.mounted_at
    }

    /// What was not synced is gone when the disk is used again; nobody may use it now.
    pub fn mount_again(&self) -> Result<()> {
        self.unmount()?;
        self.mount()
    }

    /// Takes all room that is left; again, if some has become free since.
    pub fn fill(&self) -> Result<()> {
        let mut filler = OpenOptions::new().create(true).append(true).open(self.filler())?;
        for step in [1 << 20, 4 << 10, 1] {
            let zeros = vec![0; step];
            loop {
                match filler.write(&zeros) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("fill the disk"),
                }
            }
        }
        match filler.sync_all() {
            Err(error) if error.kind() != ErrorKind::StorageFull => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub fn free(&self) -> Result<()> {
        std::fs::remove_file(self.filler()).context("the disk was not filled")
    }

    fn filler(&self) -> PathBuf {
        self.mounted_at.join("filler")
    }

    fn mount(&self) -> Result<()> {
        tool("mount", &["-o".as_ref(), "loop".as_ref(), self.image.as_os_str(), self.mounted_at.as_os_str()]).map(drop)
    }

    fn unmount(&self) -> Result<()> {
        let until = Instant::now() + UNMOUNT_WITHIN;
        loop {
            match tool("umount", &[&self.mounted_at]) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => std::thread::yield_now(),
            }
        }
    }
}

/// No process may hold the disk any more, or it stays mounted until the test's namespace ends.
impl Drop for Disk {
    fn drop(&mut self) {
        let _ = tool("umount", &[&self.mounted_at]);
    }
}

/// Cuts disks off where they are: nothing that is not on them yet ever will be.
pub fn shut_down(disks: &[&Disk]) -> Result<()> {
    ensure!(!disks.is_empty(), "no disk is named");
    let mut arguments = vec!["-e".as_ref(), SHUT_DOWN.as_ref()];
    arguments.extend(disks.iter().map(|disk| disk.mounted_at.as_os_str()));
    tool("perl", &arguments).map(drop)
}
