//! One house works from a home at a time. Others may wait for their turn.
//!
//! The lock is the kernel's, on a file of the home: it is given up when the process ends, however it ends.

use std::fs::{File, TryLockError};
use std::time::Duration;

use crate::failure::{Failure, While as _};
use crate::home::Home;
use crate::service::stopped;

const FILE: &str = "house.lock";
/// How often the one that waits looks.
const LOOK: Duration = Duration::from_millis(200);

/// Whoever has it works. Dropping it lets the next one.
#[derive(Debug)]
pub struct Turn {
    _lock: File,
}

impl Turn {
    /// Takes the turn, if nobody has it.
    ///
    /// # Errors
    /// [`Failure`] where the file cannot be locked; that another one has it is `None`.
    pub fn take(home: &Home) -> Result<Option<Self>, Failure> {
        let path = home.file(FILE);
        let doing = || format!("cannot lock {}", path.display());
        let lock = File::options().create(true).truncate(false).write(true).open(&path).while_(doing())?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { _lock: lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).while_(doing()),
        }
    }

    /// Takes it, or refuses.
    ///
    /// # Errors
    /// [`Failure`] where another one has it.
    pub fn now(home: &Home) -> Result<Self, Failure> {
        Self::take(home)?.ok_or_else(|| {
            Failure::new(format!("the house of {} is running", home.path.display()))
                .hint("stop it first; or wait for its end with `comity clearing run --standby`")
        })
    }

    /// Waits until whoever has it ends; `None` where this process is told to end before.
    ///
    /// # Errors
    /// [`Failure`] where the file cannot be locked.
    pub async fn wait(home: &Home) -> Result<Option<Self>, Failure> {
        let mut told = std::pin::pin!(stopped());
        let mut is_told = false;
        loop {
            if let Some(turn) = Self::take(home)? {
                return Ok(Some(turn));
            }
            if !std::mem::replace(&mut is_told, true) {
                eprintln!("waiting until the house of {} ends", home.path.display());
            }
            tokio::select! {
                done = &mut told => return done.map(|()| None),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Role;

    #[tokio::test]
    async fn one_works_and_the_next_one_has_its_turn_when_that_ends() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(&folder.path().join("house"), "house", "House", Role::House).unwrap();
        let first = Turn::now(&home).unwrap();
        assert!(Turn::now(&home).unwrap_err().to_string().contains("is running"));
        let waiting = tokio::spawn({
            let home = home.clone();
            async move { Turn::wait(&home).await.unwrap().is_some() }
        });
        assert!(Turn::take(&home).unwrap().is_none());
        drop(first);
        assert!(waiting.await.unwrap());
    }
}
