//! The server that is asked what is in texts: whether it answers, and whether callers are told of it.

use std::time::{Duration, Instant};

use super::super::{Check, home::first_line};
use crate::home::Home;
use crate::offer::Offer;
use crate::settings::Settings;

const NAME: &str = "moderation";
/// Nobody's words.
const HARMLESS: &str = "The library opens at nine.";

/// Nothing where no server is asked.
pub(super) async fn checks(home: &Home) -> Vec<Check> {
    // What is wrong with the settings as a whole is said elsewhere.
    let Ok(settings) = Settings::read(home) else { return Vec::new() };
    let offers = offers(home);
    let Some(moderator) = &settings.moderation else {
        let told = offers.iter().find(|offer| offer.data_policy.moderation.is_some());
        return told.map(|offer| untold(&offer.model.name)).into_iter().collect();
    };
    let moderation = match moderator.moderation(home) {
        Ok(moderation) => moderation,
        Err(failure) => {
            return vec![Check::fail(NAME, first_line(&failure), "mend node.toml; the node does not start with it")];
        }
    };
    let began = Instant::now();
    let asked = tokio::time::timeout(Duration::from_millis(moderator.ms_max), moderation.judge(&[HARMLESS])).await;
    let took = began.elapsed().as_millis();
    let mut checks = vec![match asked {
        Ok(Ok(found)) if found.is_clean() => Check::ok(NAME, format!("{} answered in {took} ms", moderator.by)),
        Ok(Ok(_)) => Check::warn(
            NAME,
            format!("{} flags \"{HARMLESS}\"", moderator.by),
            "look at the scores of [[moderation.map]]",
        ),
        Ok(Err(error)) => Check::fail(
            NAME,
            format!("{}: {error}", moderator.by),
            "see base_url, key and [[moderation.map]]; until it answers calls end as `fail` says (docs/operating/moderation.md)",
        ),
        Err(_) => Check::fail(
            NAME,
            format!("{} did not answer in {} ms", moderator.by, moderator.ms_max),
            "see that it runs, or raise ms_max; until then calls end as `fail` says (docs/operating/moderation.md)",
        ),
    }];
    for offer in &offers {
        if let Some(mismatch) = moderator.mismatch(Some(&offer.data_policy)) {
            let next = "say the same in [data_policy.moderation] of its file, then: comity model publish";
            checks.push(Check::warn(NAME, format!("{}: {mismatch}", offer.model.name), next));
        }
    }
    checks
}

fn untold(model: &str) -> Check {
    let found =
        format!("{model}'s manifest says that somebody is asked what is in texts, and node.toml has no [moderation]");
    Check::warn(NAME, found, "add [moderation] to node.toml, or take the words out of its file and publish it")
}

fn offers(home: &Home) -> Vec<Offer> {
    let files = std::fs::read_dir(home.file("models")).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    files.sort();
    files.iter().filter_map(|path| Offer::read(path).ok()).collect()
}
