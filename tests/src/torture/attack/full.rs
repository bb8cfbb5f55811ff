//! A disk without room. The node refuses clearly, gives nothing away, loses nothing that it has answered, and goes on by
//! itself when there is room again, also after a kill.
//!
//! In two ways: files of the node's process may not grow (`prlimit`, for everybody), and a file system of its own that is
//! filled to the last byte (a tmpfs, where this may mount one).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use comity_wire::Amount;

use super::raw::{Bye, Line};
use super::scene::{Scene, Seen};
use super::{Facts, Size};
use crate::Holder;
use crate::federation::within;
use crate::holder::Chat;
use crate::torture::Tally;
use crate::torture::cycle::RECOVERY;

const HOLD: u32 = 1_000;
const LANES: u16 = 8;
/// Calls that are refused while there is no room, a third of them streams.
const REFUSED: u64 = 12;
/// Nothing that a charge is written to is smaller than this.
const FILE_BYTES: u64 = 16 << 10;
/// Room for a node that has just begun.
const DISK: &str = "size=96m,mode=0700";

/// What has no room.
enum Disk {
    /// Files of the process may not grow.
    Quota,
    /// A file system is full.
    Mounted(Mount),
}

/// A file system over a folder. Dropping it takes it away.
struct Mount {
    at: PathBuf,
}

impl Mount {
    /// Over a folder with files in it, which are in there afterwards. `None` where this may not mount anything.
    fn over(at: &Path) -> Option<Self> {
        let aside = at.with_extension("aside");
        let ran = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        if !ran(Command::new("cp").arg("-a").arg(at).arg(&aside)) {
            return None;
        }
        let mounted = ran(Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(at));
        let mount = mounted.then(|| Self { at: at.to_owned() });
        if mount.is_some() {
            assert!(ran(Command::new("cp").arg("-a").arg(aside.join(".")).arg(at)), "the home fits into its disk");
        }
        std::fs::remove_dir_all(&aside).expect("a copy can be removed");
        mount
    }

    fn fill(&self) {
        let mut ballast = std::fs::File::create(self.ballast()).expect("a file");
        let mut piece = 1 << 20;
        while piece > 0 {
            match ballast.write(&vec![1; piece]) {
                Ok(1..) => {}
                _ => piece /= 2,
            }
        }
    }

    fn empty(&self) {
        std::fs::remove_file(self.ballast()).expect("the ballast is there");
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a process that a failed test left behind ends a moment later.
        let _ = Command::new("umount").arg("-l").arg(&self.at).output();
    }
}

impl Disk {
    fn fill(&self, scene: &mut Scene) {
        match self {
            Self::Quota => limit(scene, &FILE_BYTES.to_string()),
            Self::Mounted(mount) => mount.fill(),
        }
    }

    fn empty(&self, scene: &mut Scene) {
        match self {
            Self::Quota => limit(scene, "unlimited"),
            Self::Mounted(mount) => mount.empty(),
        }
    }
}

/// How large files of the node's process may be; the hard limit stays, so that everybody can raise it again.
fn limit(scene: &mut Scene, soft: &str) {
    let process = scene.federation.service("lab").id().to_string();
    let ran = Command::new("prlimit").args(["--pid", &process, &format!("--fsize={soft}:")]).status();
    assert!(ran.is_ok_and(|status| status.success()), "prlimit (of util-linux) sets a limit of one's own process");
}

pub(super) async fn story(size: Size, tally: &Tally) -> Facts {
    let mut facts = play(size, tally, Way::Quota).await.expect("a limit can always be set");
    match play(size, tally, Way::Mounted).await {
        Some(mounted) => {
            for (name, count) in mounted {
                *facts.entry(name).or_default() += count;
            }
        }
        None => eprintln!("full: no file system may be mounted here: played by a limit on files alone"),
    }
    facts
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Quota,
    Mounted,
}

async fn play(size: Size, tally: &Tally, way: Way) -> Option<Facts> {
    let mounted = std::sync::Mutex::new(None);
    let furnish = |home: &Path| {
        if way == Way::Mounted {
            *mounted.lock().expect("no panic while it is mounted") = Mount::over(home);
        }
    };
    let mut scene = Scene::begin(tally, None, |offer| offer, furnish).await;
    let disk = match (way, mounted.into_inner().expect("no panic while it was mounted")) {
        (Way::Quota, _) => Disk::Quota,
        (Way::Mounted, Some(mount)) => Disk::Mounted(mount),
        (Way::Mounted, None) => {
            scene.end().await;
            return None;
        }
    };
    scene.federation.service("lab").end().await;
    scene.federation.service("lab").restart_bounded().await;
    scene.answers().await;

    let holder = scene.holder(HOLD * 1_000, LANES).await;
    let mut calls = Calls { holder: Arc::clone(&holder), seen: Vec::new(), seqs: [0; LANES as usize] };
    let (honest, watch) = (scene.honest(), scene.watch(&holder));
    let mut refused = 0;
    for cycle in 0..size.cycles() {
        for lane in 0..LANES {
            calls.answered(&scene, lane).await;
        }
        disk.fill(&mut scene);
        // Whatever has room still is answered and charged; from the first refusal on nothing is.
        let full = async || match calls.ask(&scene, 0, false).await {
            503 => Ok(()),
            status => Err(format!("{status} on a full disk")),
        };
        if let Err(error) = within(RECOVERY, full).await {
            tally.broken(&format!("cycle {cycle}: {error}"));
        }
        let asked = scene.server.asked();
        for number in 0..REFUSED {
            let lane = u16::try_from(number).expect("few calls") % LANES;
            let status = calls.ask(&scene, lane, number % 3 == 0).await;
            if status == 503 {
                refused += 1;
            } else {
                tally.overspent(1, &format!("cycle {cycle}: {status} from a node that cannot charge"));
            }
        }
        let gifts = scene.server.asked() - asked;
        if gifts > 0 {
            tally.overspent(1, &format!("cycle {cycle}: the model was asked {gifts} times for what cannot be charged"));
        }
        disk.empty(&mut scene);
        let again = async || match calls.ask(&scene, 0, false).await {
            200 => Ok(()),
            status => Err(format!("{status} with room again")),
        };
        if let Err(error) = within(RECOVERY, again).await {
            tally.phantom(&format!("cycle {cycle}: {error}"));
        }
    }
    let (answers, looks) = (honest.end(&scene).await, watch.end().await);
    // What it answered is on the disk, not in its memory.
    scene.federation.service("lab").kill().await;
    scene.federation.service("lab").restart_bounded().await;
    scene.answers().await;
    let mut facts = scene.reckon(&holder, &calls.seen).await;
    facts.extend([("honest", answers), ("looks", looks), ("refused", refused)]);
    scene.end().await;
    drop(disk);
    Some(facts)
}

/// Calls with a number of their own each.
struct Calls {
    holder: Arc<Holder>,
    seen: Vec<Seen>,
    seqs: [u64; LANES as usize],
}

impl Calls {
    /// Asks once; gives the status. What is refused is no answer, in no part.
    async fn ask(&mut self, scene: &Scene, lane: u16, stream: bool) -> u16 {
        let seq = &mut self.seqs[usize::from(lane)];
        let place = (lane, *seq + 1);
        let question = format!("words 3 0 full {lane} {}", place.1);
        let chat = Chat { question: &question, max_tokens: 8, stream };
        let request = self.holder.sign_chat(&scene.model, place, Amount::from_ucr(HOLD), &chat);
        let Ok(mut line) = Line::dial(scene.address(), &self.holder.transport_keys, None).await else { return 0 };
        if line.send(&request.http1()).await.is_err() {
            return 0;
        }
        line.read_until(|line| line.is_done() || line.text().contains("\r\n0\r\n\r\n")).await;
        let seen = Seen::of(&line, &chat, place);
        let status = seen.status;
        let text = line.text();
        if status == 503 && !(text.contains("store_unavailable") && text.contains("\"whose_move\":\"owner\"")) {
            scene.tally.broken(&format!("a refusal that does not say why, and whose move it is: {text}"));
        }
        // A call that began before there was no room may end without its charge: told so, and never as if whole.
        let status = if status == 200 && !seen.is_done { 503 } else { status };
        if seen.is_done {
            *seq += 1;
        }
        let seen = if seen.is_done { seen } else { Seen { words: 0, ..seen } };
        line.bye(Bye::Fin);
        self.seen.retain(|before| (before.lane, before.seq) != place);
        self.seen.push(seen);
        status
    }

    async fn answered(&mut self, scene: &Scene, lane: u16) {
        let status = self.ask(scene, lane, lane.is_multiple_of(2)).await;
        if status != 200 {
            scene.tally.phantom(&format!("{status} with room"));
        }
    }
}
