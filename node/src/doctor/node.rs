//! An owner's node, looked at from its home: its files, its store, and above all what is stopped.

mod moderation;

use comity_gateway::store::stops::Target;

use super::{Check, Report, State};
use crate::command::node::stop::said;
use crate::failure::Failure;
use crate::home::{Home, Role};
use crate::offer::Offer;
use crate::service::decisions::Standing;
use crate::service::{admin, stops};
use crate::settings::Settings;
use crate::shell;

/// Looks at everything. Where no process of this home runs, the store is opened once and given back.
pub async fn look(home: &Home) -> Report {
    let mut checks = vec![role(home), settings(home)];
    checks.extend(models(home));
    checks.extend(moderation::checks(home).await);
    let (stopped, running) = stopped(home).await;
    checks.extend(stopped);
    if running {
        checks.extend(decisions(home).await);
    }
    let well = checks.iter().all(|check| check.state < State::Fail);
    Report { what: "node", at: shell::now(), well, running, checks }
}

/// Whether what was decided goes on from what houses have logged.
async fn decisions(home: &Home) -> Option<Check> {
    let standing: Standing = admin::get_if_running(&home.path, "/admin/decisions").await.ok()??;
    let path = home.path.display();
    if let Some((at, what)) = standing.houses.iter().find_map(|at| Some((at.house, at.broken.as_ref()?))) {
        let next = format!("comity node decisions check --home {path}; docs/operating/decisions.md");
        return Some(Check::fail("decisions", format!("they do not go on from what {at} has logged: {what}"), next));
    }
    let Standing { sealed, waiting, heard, over, .. } = standing;
    if !heard && over < sealed {
        let what = format!(
            "{} of {sealed} events are under no root, and not every house that has something of this node has answered since the start",
            sealed - over
        );
        return Some(Check::warn("decisions", what, format!("comity node decisions status --home {path}")));
    }
    Some(Check::ok("decisions", format!("{sealed} events are sealed, {waiting} wait")))
}

fn role(home: &Home) -> Check {
    match home.card.role {
        Role::Owner => Check::ok("home", format!("{} of {}", home.path.display(), home.card.organisation)),
        other => Check::fail("home", format!("this is the home of a {other:?}"), "name the node's home with --home"),
    }
}

fn settings(home: &Home) -> Check {
    match Settings::read(home).and_then(|settings| settings.spend.is_shared(home)) {
        Ok(true) => Check::ok("settings", "the spend store is in PostgreSQL"),
        Ok(false) => Check::ok("settings", "the spend store is spend.sqlite"),
        Err(failure) => Check::fail("settings", super::home::first_line(&failure), "mend node.toml"),
    }
}

fn models(home: &Home) -> Vec<Check> {
    let folder = home.file("models");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        let next = "comity model example > models/NAME.toml";
        return vec![Check::fail("models", format!("{} cannot be read", folder.display()), next)];
    };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    let mut checks: Vec<Check> = paths
        .iter()
        .filter_map(|path| Offer::read(path).and_then(|offer| texts(home, &offer)).err())
        .map(|failure| {
            Check::fail("models", super::home::first_line(&failure), "mend the file; the node does not start with it")
        })
        .collect();
    match (checks.is_empty(), paths.len()) {
        (true, 0) => checks.push(Check::warn("models", "there are none", "comity model example > models/NAME.toml")),
        (true, count) => checks.push(Check::ok("models", format!("{count} files can be read"))),
        _ => {}
    }
    checks
}

/// Only who writes the feed needs the texts of terms of use.
fn texts(home: &Home, offer: &Offer) -> Result<(), Failure> {
    match Settings::read(home)?.feed.publish {
        true => offer.policy_of(&home.card, 0, shell::now()).map(drop),
        false => Ok(()),
    }
}

/// A line for each thing that is stopped or suspended; and whether a process of this home runs.
async fn stopped(home: &Home) -> (Vec<Check>, bool) {
    let view = match stops::view(home).await {
        Ok(view) => view,
        Err(failure) => {
            let next = "see that the store is there and that no other process holds it; until it can be read the node admits nothing";
            return (vec![Check::fail("spend store", super::home::first_line(&failure), next)], false);
        }
    };
    let path = home.path.display();
    let mut checks = vec![Check::ok("spend store", "it can be read")];
    for stop in &view.stops {
        let target = match &stop.target {
            Target::Node => "--all".to_owned(),
            Target::Model(model) => format!("--model {model}"),
            Target::Project(project) => format!("--project {project}"),
        };
        let next = format!("when its reason is over: comity node resume --home {path} {target} --reason TEXT");
        checks.push(Check::warn("stopped", format!("{} is stopped {}", stop.target, said(stop)), next));
    }
    for one in &view.suspended {
        let found = format!("project {} is suspended by the filter since {}: {}", one.project, one.since, one.rule);
        let next = format!(
            "look into it (comity node flags --home {path}), then: comity node resume --home {path} --project {} --reason TEXT",
            one.project
        );
        checks.push(Check::warn("suspended", found, next));
    }
    if checks.len() == 1 {
        checks.push(Check::ok("stopped", "nothing is stopped, and nobody is suspended"));
    }
    (checks, view.running)
}
