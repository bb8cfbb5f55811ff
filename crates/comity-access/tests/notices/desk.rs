//! A node's notices without a node: settings, an outbox in memory, and what takes them away.

use std::path::Path;
use std::sync::Arc;

use comity_access::notice::{Dispatcher, Notice, Targets};
use comity_access::{Kind, Role, State};
use zeroize::Zeroizing;

use crate::memory::Memory;
use crate::story::{NOW, Story};

/// What stands in a node's settings.
#[derive(serde::Deserialize)]
struct Settings {
    notice: Targets,
}

pub(crate) fn targets(text: &str) -> Targets {
    toml::from_str::<Settings>(text).expect("settings").notice
}

pub(crate) struct Desk {
    pub(crate) outbox: Arc<Memory>,
    pub(crate) targets: Targets,
    pub(crate) desk: Dispatcher,
}

impl Desk {
    /// `files` are what is read of the home: secrets, passwords, certificates.
    pub(crate) fn open(targets: Targets, files: &[(&str, &str)]) -> Self {
        comity_http::tls::install();
        let outbox = Arc::new(Memory::default());
        let read = |path: &Path| match files.iter().find(|(name, _)| Path::new(name) == path) {
            Some((_, text)) => Ok(Zeroizing::new((*text).to_owned())),
            None => Err("no such file".into()),
        };
        let senders = targets.open(&read).unwrap_or_else(|bad| panic!("{bad}"));
        let desk = Dispatcher::new(Arc::clone(&outbox) as _, senders);
        Self { outbox, targets, desk }
    }

    pub(crate) fn paced(self, pace: comity_access::notice::Pace) -> Self {
        Self { desk: self.desk.paced(pace), ..self }
    }

    pub(crate) fn say(&self, said: &[Notice]) {
        let rows = said.iter().flat_map(|notice| self.targets.deliveries(notice)).collect();
        self.outbox.write(rows, NOW);
    }

    /// Says that an application was handed in.
    pub(crate) fn submit(&self) {
        self.say(&Story::at(State::Draft).does(Kind::Submit, Role::Applicant));
    }
}
