//! The one folder where everything fetched or built for the project is kept.

use std::{
    env,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::progress;

/// The project's cache folder.
///
/// Nothing in it is ever half there: whatever takes more than one step is made under [`Cache::scratch`] and
/// renamed into place when it is whole, so an interrupt at any moment costs only the work of that step.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens `$NATTRACE_CACHE`, `$XDG_CACHE_HOME/nattrace` or `~/.cache/nattrace`, in this order.
    pub(crate) fn open() -> Result<Self> {
        let var = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = var("NATTRACE_CACHE")
            .or_else(|| var("XDG_CACHE_HOME").map(|dir| dir.join("nattrace")))
            .or_else(|| var("HOME").map(|dir| dir.join(".cache/nattrace")))
            .context("no place for the cache: set NATTRACE_CACHE to a folder, or HOME")?;
        fs::create_dir_all(&root).with_context(|| {
            format!("cannot create the cache folder {}: set NATTRACE_CACHE", root.display())
        })?;
        // cargo and qemu are run from other directories.
        let root = root.canonicalize().with_context(|| format!("cannot resolve {}", root.display()))?;
        Ok(Self { root })
    }

    /// A path in the cache.
    pub(crate) fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// Waits until no other xtask changes the cache. Released when the file is dropped or the process dies.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.join("lock");
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        lock(&file, &path, "another cargo xtask to finish its set-up")?;
        Ok(file)
    }

    /// An empty folder for work in progress. What an interrupted run left there is removed.
    ///
    /// Call it only with the cache locked.
    pub(crate) fn scratch(&self, name: &str) -> Result<PathBuf> {
        let path = self.join("tmp").join(name);
        remove(&path)?;
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }
}

/// Puts finished work into its place, in one step.
pub(crate) fn publish(from: &Path, to: &Path) -> Result<()> {
    remove(to)?;
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    fs::rename(from, to).with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
}

/// Locks `file`, saying on standard error what is waited for when it cannot be had at once.
pub(crate) fn lock(file: &File, path: &Path, waits_for: &str) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            progress::step(format_args!("waiting for {waits_for} ({})", path.display()));
            file.lock().with_context(|| format!("cannot lock {}", path.display()))
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

/// Removes a file or a folder that may not exist.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
        .with_context(|| format!("cannot remove {}", path.display()))
}
