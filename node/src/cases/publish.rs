//! What became of cases, quarter by quarter, in the organisation's feed (spec/11-access.md §11.8).
//!
//! What was signed of a quarter is a file in the home: it is published again at each start, and never another one in its place.

use std::sync::Arc;

use comity_access::case::{Quarter, Tally};
use comity_wire::object::Statistics;
use comity_wire::{SecretKey, Signed, cose};

use crate::failure::{Failure, While as _};
use crate::home::{self, Home};
use crate::service::Member;
use crate::shell;

use super::Casework;

/// In the home.
const FOLDER: &str = "statistics";
/// How often it is looked whether a quarter is over.
const LOOK: std::time::Duration = std::time::Duration::from_secs(3600);

/// What was published before, to go into the feed with everything else at a start. What another key of the feed's writer has signed
/// is signed again, word for word; a file that holds none is left out, and named in the log.
///
/// # Errors
/// [`Failure`] naming the file that cannot be read.
pub fn published(home: &Home, writer: &SecretKey) -> Result<Vec<Vec<u8>>, Failure> {
    let folder = home.file(FOLDER);
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).while_(format!("cannot read {}", folder.display())),
    };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "cbor"));
    paths.sort();
    let mut objects = Vec::new();
    for path in paths {
        let bytes = std::fs::read(&path).while_(format!("cannot read {}", path.display()))?;
        match Signed::<Statistics>::decode(&bytes) {
            Ok(signed) if signed.unverified().org != home.card.organisation => {
                tracing::error!(path = %path.display(), "statistics of another organisation are not published");
            }
            Ok(signed) => {
                let said = signed.unverified().clone();
                let is_current = signed.verify(&writer.public()).is_ok();
                objects.push(if is_current { bytes } else { cose::try_sign(&said, writer)?.bytes().to_vec() });
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "this file holds no statistics, and is not published");
            }
        }
    }
    Ok(objects)
}

/// Publishes, in the process that writes the organisation's feed.
#[derive(Clone)]
pub struct Publisher {
    pub casework: Casework,
    pub member: Arc<Member>,
    pub writer: Arc<SecretKey>,
    /// Whether this process writes the feed.
    pub publishes: bool,
}

impl Publisher {
    /// What would be said of a quarter.
    ///
    /// # Errors
    /// [`Failure`] where it is not over, or the cases cannot be read.
    pub async fn look(&self, quarter: Quarter) -> Result<Statistics, Failure> {
        let tally: Tally = self.casework.desk.tally(quarter).await?;
        tally.statistics(self.member.home.card.organisation, quarter, shell::now()).ok_or_else(|| {
            Failure::new(format!("{quarter} is not over"))
                .hint("counts of a quarter stand still once it is over; the one before is what is published without --quarter")
        })
    }

    /// Says it, once for each quarter; a repeat says the same again.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn publish(&self, quarter: Quarter) -> Result<Statistics, Failure> {
        if !self.publishes {
            return Err(Failure::new("this process does not write the organisation's feed")
                .hint("publish with the home of the process that does"));
        }
        let path = self.member.home.file(FOLDER).join(format!("cases-{quarter}.cbor"));
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let signed = cose::try_sign(&self.look(quarter).await?, &self.writer)?;
                std::fs::create_dir_all(self.member.home.file(FOLDER))?;
                // On the disk before anybody hears of it: there is one for each quarter.
                home::write(&path, signed.bytes())?;
                signed.bytes().to_vec()
            }
            Err(error) => return Err(error).while_(format!("cannot read {}", path.display())),
        };
        let said = Signed::<Statistics>::decode(&bytes)?.unverified().clone();
        self.member.put(vec![bytes]).await?;
        Ok(said)
    }

    /// Goes on for ever: what is over is published, where the owner wants that.
    pub async fn run(&self) -> std::convert::Infallible {
        loop {
            let quarter = Quarter::of(shell::now()).before();
            let path = self.member.home.file(FOLDER).join(format!("cases-{quarter}.cbor"));
            if !path.exists() {
                match self.publish(quarter).await {
                    Ok(_) => tracing::info!(%quarter, "counts of cases were published"),
                    Err(failure) => {
                        tracing::error!(%failure, %quarter, "counts of cases were not published; it is tried in an hour")
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use comity_wire::Timestamp;
    use comity_wire::cbor::{List, Text};

    use super::*;
    use crate::home::Role;

    #[test]
    fn what_was_said_is_said_again_also_under_another_key_and_what_is_broken_keeps_no_node_from_starting() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::init(&folder.path().join("lab"), "lab", "Lab", Role::Owner).unwrap();
        let (before, now) = (SecretKey::from_seed([1; 32]), SecretKey::from_seed([2; 32]));
        assert!(published(&home, &now).unwrap().is_empty());
        let said = |org, quarter: &str| Statistics {
            org,
            period: Text::new(quarter).unwrap(),
            issued_at: Timestamp(1_800_000_000),
            rows: List::default(),
        };
        std::fs::create_dir(home.file(FOLDER)).unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(home.file(FOLDER).join(name), bytes).unwrap();
        let ours = home.card.organisation;
        let newest = cose::try_sign(&said(ours, "2026-q2"), &now).unwrap().bytes().to_vec();
        write("cases-2026-q1.cbor", cose::try_sign(&said(ours, "2026-q1"), &before).unwrap().bytes());
        write("cases-2026-q2.cbor", &newest);
        write("cases-2026-q3.cbor", b"torn");
        write(
            "cases-2026-q4.cbor",
            cose::try_sign(&said(comity_wire::OrgId([9; 16]), "2026-q4"), &now).unwrap().bytes(),
        );
        write("notes.txt", b"");
        let objects = published(&home, &now).unwrap();
        let periods: Vec<String> = objects
            .iter()
            .map(|bytes| {
                let signed = Signed::<Statistics>::decode(bytes).unwrap().verify(&now.public()).unwrap();
                signed.period.to_string()
            })
            .collect();
        assert_eq!(periods, ["2026-q1", "2026-q2"]);
        assert_eq!(objects[1], newest);
    }
}
