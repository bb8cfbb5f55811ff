//! The clearing house under faults of what it stands on: a cycle is a house that is opened, asked by many, and struck by one
//! [`Fault`]; then it is opened again, everything that was answered is asked again, and the books are audited.
//!
//! The house is the real one with its real store, in this process, so that its clock can be set and its disk can lose what it
//! was not told to keep. Kill −9 of the process is [`super::story`].

mod cluster;
mod fault;
mod power;
mod sale;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use comity_clearing::Clearing;
use comity_wire::api::clearing::ReservationRequest;
use comity_wire::{Amount, Code, ProjectId, TokenId};

use self::fault::Books;
use self::sale::{Sale, Unanswered};
use super::{Store, Tally};
use crate::Chance;
use crate::house::{AWARD, PROJECT, START, World, secret};

pub use fault::{Fault, Synchronous};

/// Sales that are begun in a cycle.
const SALES: usize = 12;
/// Sales that are looked at again in every cycle; older ones are in the sums.
const KEPT: usize = 24;
/// Who wants the last credit, and how many can have it.
const RACERS: usize = 200;
const ROOM: u32 = 7;
/// How often each answer is asked for again at once.
const REPEATS: usize = 10;
/// Under a fault everything takes as long as it takes; then it is over.
const PATIENCE: Duration = Duration::from_secs(120);
const DAY_S: u64 = 86_400;

struct Run<'t> {
    world: Arc<World>,
    books: Books,
    tally: &'t Tally,
    sales: Vec<Sale>,
    /// Of sales that are done: what the owner is owed.
    settled: i64,
    /// How often each fault struck.
    struck: BTreeMap<&'static str, u32>,
    /// Writes that were not on the disk when the power was cut.
    unsynced: usize,
}

/// Plays `cycles` faults in turn. Gives how often each struck, and how many writes a power cut found unsynced.
///
/// # Panics
/// Where what keeps the books cannot be set up.
pub async fn clearing(
    store: Store,
    synchronous: Synchronous,
    faults: &[Fault],
    cycles: u32,
    chance: &mut Chance,
    tally: &Tally,
) -> (BTreeMap<&'static str, u32>, usize) {
    let world = Arc::new(World::new());
    let books = Books::new(store, synchronous).await;
    let house = world.open(books.database(None)).await.expect("a house opens on new books");
    world.begin(&house, PROJECT, AWARD).await;
    house.shutdown().await;
    drop(house);
    // An award is no sale: before the first fault it is on the disk.
    let mut run = Run { world, books, tally, sales: Vec::new(), settled: 0, struck: BTreeMap::new(), unsynced: 0 };
    for (number, fault) in faults.iter().cycle().take(cycles as usize).enumerate() {
        run.cycle(*fault, chance).await;
        tally.was_killed();
        *run.struck.entry(fault.name()).or_default() += 1;
        if number % 25 == 24 {
            eprintln!("clearing {}/{cycles}: {} answered so far", number + 1, tally.report().acked);
        }
    }
    (run.struck, run.unsynced)
}

impl Run<'_> {
    async fn cycle(&mut self, fault: Fault, chance: &mut Chance) {
        let Some(house) = self.open(Some(fault)).await else { return };
        self.begin_sales(&house, chance).await;
        self.load(&house, fault, chance).await;
        house.shutdown().await;
        drop(house);
        self.unsynced += self.books.mend(fault, chance);
        let Some(house) = self.open(None).await else { return };
        match house.project_status(PROJECT).await {
            Ok(status) => self.sales.iter().for_each(|sale| sale.stands(&status.tokens, self.tally)),
            Err(failure) => self.tally.lost(&format!("the project: {failure}")),
        }
        for sale in &self.sales {
            sale.look_again(&house, &self.world, self.tally).await;
        }
        self.go_on(&house).await;
        self.reckon(&house).await;
        house.shutdown().await;
        let done = self.sales.len().saturating_sub(KEPT);
        self.settled += self.sales.drain(..done).map(|sale| sale.total()).sum::<i64>();
    }

    async fn open(&self, fault: Option<Fault>) -> Option<Clearing> {
        match self.world.open(self.books.database(fault)).await {
            Ok(house) => Some(house),
            Err(error) => {
                self.tally.broken(&format!("the house does not open again: {}", crate::federation::chain(&error)));
                None
            }
        }
    }

    async fn begin_sales(&mut self, house: &Clearing, chance: &mut Chance) {
        match self.world.quote(house, PROJECT).await {
            Ok(quote) => self.sales.extend((0..SALES).map(|_| Sale::new(quote.clone(), chance))),
            Err(failure) => self.tally.phantom(&format!("no quote from a house that was just opened: {failure}")),
        }
    }

    /// Everybody goes on at once, and in the middle of it the fault strikes.
    async fn load(&mut self, house: &Clearing, fault: Fault, chance: &mut Chance) {
        match fault {
            Fault::LastCredit => return self.race(house, chance).await,
            Fault::Replays => {
                self.go_on(house).await;
                return self.replay(house).await;
            }
            _ => {}
        }
        let due = chance.within(0..(SALES * 4) as u64);
        let answered = Arc::new(AtomicU64::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = tokio::task::JoinSet::new();
        let (done, open): (Vec<_>, Vec<_>) = std::mem::take(&mut self.sales).into_iter().partition(Sale::is_done);
        self.sales = done;
        for mut sale in open {
            let (house, world, tally) = (house.clone(), Arc::clone(&self.world), self.tally.clone());
            let answered = Arc::clone(&answered);
            tasks.spawn(async move {
                let told = || {
                    answered.fetch_add(1, Ordering::SeqCst);
                };
                let ended = sale.go_on(&house, &world, &tally, told).await;
                (sale, ended)
            });
        }
        let striking = async {
            while answered.load(Ordering::SeqCst) < due && !over.load(Ordering::SeqCst) {
                tokio::task::yield_now().await;
            }
            match fault {
                Fault::ClockJumps => self.jump(house, chance).await,
                _ => tokio::task::block_in_place(|| self.books.strike(fault)),
            }
        };
        let ending = async {
            let mut ended = Vec::new();
            while let Some(task) = tasks.join_next().await {
                ended.push(task.expect("whoever asks comes to an end"));
            }
            over.store(true, Ordering::SeqCst);
            ended
        };
        let both = tokio::time::timeout(PATIENCE, async { tokio::join!(striking, ending).1 }).await;
        let Ok(ended) = both else {
            return self.tally.broken(&format!("under {} a caller hears nothing", fault.name()));
        };
        for (sale, ended) in ended {
            if let Err(Unanswered::Refused(what)) = ended {
                self.tally.phantom(&format!("{} under {}: {what}", sale.id(), fault.name()));
            }
            self.sales.push(sale);
        }
    }

    /// Forward by days, back behind where it was, and right again.
    async fn jump(&self, house: &Clearing, chance: &mut Chance) {
        let now = self.world.now();
        let (ahead, behind) = (chance.within(1..3 * DAY_S), chance.within(1..600));
        // Not behind the award's first day: to refuse it before that is right.
        for at in [now.plus(ahead), now.minus(behind).max(START), now.plus(30)] {
            self.world.set_clock(at);
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            if let Err(failure) = house.beat().await {
                self.tally.phantom(&format!("no beat at {at}: {failure}"));
            }
            if let Err(failure) = house.sweep().await {
                self.tally.phantom(&format!("no sweep at {at}: {failure}"));
            }
        }
        if now.since(START) > 20 * DAY_S {
            self.world.set_clock(START);
        }
    }

    /// Each sale comes to its end with nothing in the way.
    async fn go_on(&mut self, house: &Clearing) {
        for sale in &mut self.sales {
            match sale.go_on(house, &self.world, self.tally, || ()).await {
                Ok(()) => {}
                Err(Unanswered::Fault(what) | Unanswered::Refused(what)) => {
                    self.tally.phantom(&format!("{} with nothing in the way: {what}", sale.id()));
                }
            }
        }
    }

    async fn replay(&self, house: &Clearing) {
        let looks = self.sales.iter().flat_map(|sale| std::iter::repeat_n(sale, REPEATS));
        let looks = looks.map(|sale| sale.look_again(house, &self.world, self.tally));
        futures::future::join_all(looks).await;
    }

    /// What is enough for a few is wanted by 200: a few have it, the others hear that it is gone, and none of it is left over.
    async fn race(&self, house: &Clearing, chance: &mut Chance) {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&chance.draw().to_be_bytes());
        let project = ProjectId(id);
        let budget = Amount::from_ucr(50);
        self.world.begin(house, project, Amount::from_ucr(50 * ROOM + 49)).await;
        let quote = match self.world.quote(house, project).await {
            Ok(quote) => quote,
            Err(failure) => return self.tally.phantom(&format!("no quote before the race: {failure}")),
        };
        let mut racers = tokio::task::JoinSet::new();
        for number in 0..RACERS {
            id[8..].copy_from_slice(&(number as u64).to_be_bytes());
            let (house, member) = (house.clone(), self.world.member.public());
            let request = ReservationRequest {
                id: TokenId(id),
                quote: quote.clone(),
                budget,
                holder: secret("holder").public(),
                valid_s: 3_600,
                lanes_max: None,
                depth: 0,
                grants: Vec::new(),
                mandate: None,
            };
            racers.spawn(async move { house.reserve(&member, &request).await });
        }
        let (mut won, mut lost) = (0, 0);
        while let Some(ended) = racers.join_next().await {
            match ended.expect("a racer comes to an end") {
                Ok(_) => won += 1,
                Err(failure) if failure.code() == Code::BalanceTooLow => lost += 1,
                Err(failure) => self.tally.phantom(&format!("a racer hears: {failure}")),
            }
        }
        if won != ROOM || won + lost != u32::try_from(RACERS).expect("few") {
            let over = (i64::from(won) - i64::from(ROOM)).max(0) * budget.ucr();
            self.tally.overspent(over, &format!("{won} of {RACERS} won where there was room for {ROOM}"));
            if won < ROOM {
                self.tally.phantom(&format!("{won} won where there was room for {ROOM}"));
            }
        }
        match house.project_status(project).await {
            Ok(status) if status.in_escrow.ucr() == i64::from(ROOM) * budget.ucr() && status.available.ucr() == 49 => {
                self.tally.acked();
            }
            Ok(status) => {
                let (escrow, left) = (status.in_escrow, status.available);
                self.tally.broken(&format!("after the race {escrow} are in escrow and {left} available"));
            }
            Err(failure) => self.tally.phantom(&format!("no account after the race: {failure}")),
        }
    }

    /// The house's own audit, and its sums against what was sold.
    async fn reckon(&self, house: &Clearing) {
        match house.audit().await {
            Ok(report) if report.holds && report.ledger_sum_ucr == 0 => {}
            Ok(report) => {
                self.tally.broken(&format!("the audit finds {:?} {:?}", report.findings, report.ledger.breaks))
            }
            Err(failure) => self.tally.broken(&format!("the books cannot be audited: {failure}")),
        }
        let status = match house.project_status(PROJECT).await {
            Ok(status) => status,
            Err(failure) => return self.tally.broken(&format!("the project has no account: {failure}")),
        };
        let due = self.settled + self.sales.iter().filter(|sale| sale.is_done()).map(Sale::total).sum::<i64>();
        let more = status.settled.ucr() - due;
        if more > 0 {
            self.tally.overspent(more, &format!("{} settled, {due} is owed", status.settled));
        } else if more < 0 {
            self.tally.lost(&format!("{} settled, {due} is owed", status.settled));
        }
        let sum = status.settled.ucr() + status.available.ucr() + status.in_escrow.ucr();
        if sum != AWARD.ucr() || !status.in_escrow.is_zero() {
            self.tally.broken(&format!("{sum} of {AWARD} is there, {} in escrow", status.in_escrow));
        }
    }
}
