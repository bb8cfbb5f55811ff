//! Where things are: the checkout, the target directory, the built binary.

use std::env;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// The checkout this task belongs to and the target directory it was itself built into.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Place {
    /// Cargo says at run time where the manifest is, so a checkout that was moved still works.
    pub(crate) fn find() -> Result<Self> {
        let manifest =
            env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().map(Path::to_path_buf).filter(|root| root.join("Cargo.lock").is_file());
        let root = root.ok_or_else(|| {
            Failure::machine(format!("no workspace above {}", manifest.display()))
                .hint("run it as `cargo xtask …` inside the checkout")
        })?;
        let target = target_dir(&root)?;
        Ok(Self { root, target })
    }

    /// The `comity` binary of the dev profile.
    pub(crate) fn binary(&self) -> PathBuf {
        self.target.join("debug").join(format!("comity{}", env::consts::EXE_SUFFIX))
    }
}

/// `CARGO_TARGET_DIR` if set (relative to where cargo was called), else `target/` in the checkout.
fn target_dir(root: &Path) -> Result<PathBuf> {
    let Some(set) = env::var_os("CARGO_TARGET_DIR").filter(|set| !set.is_empty()) else {
        return Ok(root.join("target"));
    };
    let here =
        env::current_dir().map_err(|error| Failure::machine(format!("cannot tell the current directory: {error}")))?;
    Ok(here.join(set))
}
