//! Says in the node's store what lies in the home of this process: texts of calls lie on the disk of the process that answered, and
//! whoever is asked what is kept of a project has to know where.

use std::convert::Infallible;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use comity_gateway::Gateway;
use comity_gateway::store::TextHome;
use comity_wire::Timestamp;
use comity_wire::object::Logging;
use comity_wire::time::DAY_S;

use crate::failure::{Failure, While as _};
use crate::home::{write, write_secret};
use crate::offer::Offer;
use crate::shell;
use crate::transcripts;

/// What names a home, whichever machine it is on.
const FILE: &str = "home-id";
/// When a home's process said last what lies in it: a copy stays as it was made.
const SEEN: &str = "home-seen";
const EVERY: Duration = Duration::from_secs(3_600);
const AGAIN: Duration = Duration::from_secs(30);

/// Says so until it is dropped.
pub async fn tell(gateway: Gateway, home: PathBuf) -> Infallible {
    loop {
        let looked = home.clone();
        let told = tokio::task::spawn_blocking(move || look(&looked, shell::now())).await;
        let told = match told {
            Ok(Ok(text_home)) => gateway.text_home_put(&text_home).await.map_err(Failure::from),
            Ok(Err(failure)) => Err(failure),
            Err(error) => Err(error.into()),
        };
        let wait = match told {
            Ok(()) => EVERY,
            Err(failure) => {
                tracing::warn!(%failure, "where this process keeps texts is not in the store yet; it is tried again");
                AGAIN
            }
        };
        tokio::time::sleep(wait).await;
    }
}

/// What lies in a home, and what may come to lie there until it is looked again.
fn look(home: &Path, now: Timestamp) -> Result<TextHome, Failure> {
    let lies = transcripts::lies_until(home)?;
    let comes = transcripts::keeps(home)?.then(|| now.plus(longest_days(home) * DAY_S + EVERY.as_secs()));
    let until = lies.max(comes).unwrap_or(now);
    let text_home = TextHome { id: id(home)?, place: place(home), seen_at: now, until };
    // Before the store has it: what is behind the store is a copy.
    write(&home.join(SEEN), now.seconds().to_string().as_bytes())?;
    Ok(text_home)
}

/// The id of a home; made where it has none.
///
/// # Errors
/// [`Failure`] naming the file.
fn id(home: &Path) -> Result<String, Failure> {
    let path = home.join(FILE);
    if !path.exists() {
        let id: [u8; 16] = shell::random();
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        write_secret(&path, id.as_bytes())?;
    }
    let id = std::fs::read_to_string(&path).while_(format!("cannot read {}", path.display()))?;
    Ok(id.trim().to_owned())
}

/// The id of a home whose process has run.
///
/// # Errors
/// [`Failure`] where it has none.
pub fn known(home: &Path) -> Result<String, Failure> {
    let path = home.join(FILE);
    let id =
        std::fs::read_to_string(&path).while_(format!("{} is no home of a process that has run", home.display()))?;
    Ok(id.trim().to_owned())
}

/// When the process of a home said last what lies in it; `None` where it never did.
///
/// # Errors
/// [`Failure`] where that cannot be read.
pub fn seen(home: &Path) -> Result<Option<Timestamp>, Failure> {
    let path = home.join(SEEN);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).while_(format!("cannot read {}", path.display())),
    };
    let at = text.trim().parse().map_err(|_| Failure::new(format!("{} is no time", path.display())))?;
    Ok(Some(Timestamp(at)))
}

fn place(home: &Path) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let path = std::fs::canonicalize(home).unwrap_or_else(|_| home.to_owned());
    format!("{}:{}", host.trim(), path.display())
}

/// The longest that any model of this home keeps texts. A file that cannot be read stops the node elsewhere.
fn longest_days(home: &Path) -> u64 {
    let files = std::fs::read_dir(home.join("models")).into_iter().flatten().flatten().map(|entry| entry.path());
    let models = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let policies = models.filter_map(|path| Offer::read(&path).ok()).map(|offer| offer.data_policy);
    let days =
        policies.filter(|policy| policy.logging == Logging::Bodies).map(|policy| u64::from(policy.retention_days));
    days.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_says_until_when_texts_may_lie_in_it() {
        let home = tempfile::tempdir().unwrap();
        let now = Timestamp(1_795_420_800);
        let nothing = look(home.path(), now).unwrap();
        assert_eq!(nothing.until, now, "nothing lies there, and nothing comes");
        assert_eq!(look(home.path(), now).unwrap().id, nothing.id, "it stays the same home");
        assert_eq!(seen(home.path()).unwrap(), Some(now), "a copy of it says of when it is");
        assert!(nothing.place.contains(&*home.path().file_name().unwrap().to_string_lossy()), "{}", nothing.place);
        // A day's folder, with a line in it.
        let day = home.path().join("transcripts/2026-12-05");
        std::fs::create_dir_all(&day).unwrap();
        assert_eq!(look(home.path(), now).unwrap().until, now, "an empty day is none");
        std::fs::write(day.join("lab+tiny.jsonl"), "{}\n").unwrap();
        let until = look(home.path(), now).unwrap().until;
        assert!(until.to_string().starts_with("2026-12-06"), "{until}: gone within the day on which they go");
        // Whatever its days: a hold keeps it.
        let said = transcripts::Said { at: now, by: "hanna".into(), reason: "a court order".into() };
        transcripts::Folder::open(home.path()).unwrap().hold(transcripts::Chosen::default(), said).unwrap();
        assert!(look(home.path(), now).unwrap().until > now.plus(1_000 * DAY_S));
    }
}
