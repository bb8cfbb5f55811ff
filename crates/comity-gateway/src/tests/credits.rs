//! Credit notes: what the node tells the house, what it takes for an answer, and what flagged calls had cost.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use comity_guard::Category;
use comity_wire::api::clearing::Restored;
use comity_wire::cbor::Text;
use comity_wire::object::{CreditReason, FilterAction};
use comity_wire::{Amount, Code, CreditNoteId, Digest, Pseudonym, Timestamp, TokenId};

use super::evidence::Books;
use super::guarded::{HARMLESS, POLITICAL, prompt, rows};
use super::world::*;
use crate::store::credited::{HouseSaid, Noted};
use crate::{Credit, CreditError, FlaggedCharges, GiveBack, GiveBackError};

const SUBJECT: Pseudonym = Pseudonym([7; 16]);

async fn charged() -> (World, Arc<Books>) {
    let books = Arc::new(Books::default());
    let row = rows(&[("political_persuasion", FilterAction::Annotate)]);
    let world = World::new(Setting { house: Some(Arc::new(books.clone())), ..row }).await;
    let chain = world.mint(|token| token.subject = Text::new(SUBJECT.to_string()).unwrap());
    for (seq, text) in [(1, HARMLESS), (2, POLITICAL), (3, HARMLESS)] {
        assert_eq!(world.code(&prompt(&world, &chain, seq, text)).await, "ok");
    }
    (world, books)
}

fn credit(amount: u32) -> Credit {
    let (id, case) = (CreditNoteId([5; 16]), Digest::of(b"link"));
    Credit { id, subject: SUBJECT.to_string(), token: TOKEN, amount: Amount::from_ucr(amount), case, at: NOW }
}

#[tokio::test]
async fn a_credit_note_is_signed_and_its_answer_is_final_or_not() {
    let (world, books) = charged().await;
    let reply = world.gateway.credit(&credit(7)).await.unwrap();
    let note = books.notes.lock().unwrap()[0].clone();
    assert_eq!((note.node, note.token, note.reason), (NODE, TOKEN, CreditReason::Case));
    assert_eq!(
        (note.amount, note.case, reply.content),
        (Amount::from_ucr(7), Some(Digest::of(b"link")), reply.content)
    );
    // Brought again it is the same object, to the byte.
    assert_eq!(world.gateway.credit(&credit(7)).await.unwrap().content, reply.content);
    // What another day may bring, and what was not said, is asked again; the rest is the house's last word.
    for (said, is_final) in [
        (None, false),
        (Some(Code::CreditWaits), false),
        (Some(Code::StoreUnavailable), false),
        (Some(Code::WrongKey), false),
        (Some(Code::NotFound), false),
        (Some(Code::NotYours), true),
        (Some(Code::CreditTooHigh), true),
        (Some(Code::Closed), true),
        (Some(Code::LimitExceeded), true),
        (Some(Code::IdempotencyConflict), true),
    ] {
        *books.refuse.lock().unwrap() = Some(said);
        let refused = world.gateway.credit(&credit(7)).await.unwrap_err();
        assert_eq!(matches!(refused, CreditError::Declined { .. }), is_final, "{said:?}: {refused:?}");
    }
    // Another project's token, and one that was never charged here, are nobody's business of the house's.
    let before = books.notes.lock().unwrap().len();
    let other = Credit { subject: Pseudonym([8; 16]).to_string(), ..credit(7) };
    let unknown = Credit { token: TokenId([9; 16]), ..credit(7) };
    for stranger in [other, unknown] {
        let refused = world.gateway.credit(&stranger).await.unwrap_err();
        assert!(matches!(refused, CreditError::Declined { code, .. } if code == "not_yours"));
    }
    assert_eq!(books.notes.lock().unwrap().len(), before);
}

/// Kept before it is brought, brought until the house has answered; and again once the house has forgotten it.
#[tokio::test]
async fn what_is_given_back_is_kept_until_the_house_has_it() {
    let (world, books) = charged().await;
    let ask = |amount, reason| GiveBack {
        token: TOKEN,
        amount: Amount::from_ucr(amount),
        reason,
        author: "hanna".into(),
        again: false,
    };
    *books.refuse.lock().unwrap() = Some(None);
    let given = world.gateway.give_back(&ask(7, CreditReason::Fault)).await.unwrap();
    assert_eq!((given.said.clone(), given.reason, given.case), (HouseSaid::Nothing, CreditReason::Fault, None));
    assert_eq!(world.gateway.bring_credits().await, 1, "a house that is silent");
    *books.refuse.lock().unwrap() = None;
    assert_eq!(world.gateway.bring_credits().await, 0);
    let kept = world.gateway.credits(9).await.unwrap();
    assert_eq!(world.gateway.credits_of(&SUBJECT.to_string()).await.unwrap(), (kept.clone(), true));
    assert_eq!(world.gateway.credits_of(&Pseudonym([8; 16]).to_string()).await.unwrap(), (Vec::new(), true));
    let content = match &kept[..] {
        [Noted { said: HouseSaid::Booked { content, .. }, .. }] => *content,
        kept => panic!("one that was booked: {kept:?}"),
    };
    let brought = |books: &Books| books.notes.lock().unwrap().len();
    let before = brought(&books);
    assert_eq!((world.gateway.bring_credits().await, brought(&books)), (0, before), "once it has it");
    // The house lost what it had booked since its backup: the same note, to the byte.
    let restored = |backup_at: Timestamp, restored_at| Some(Restored { number: 1, backup_at, restored_at });
    *books.restored.lock().unwrap() = restored(NOW.plus(1), NOW.plus(60));
    world.gateway.houses_look().await;
    assert_eq!((world.gateway.bring_credits().await, brought(&books)), (0, before), "it was in the backup");
    *books.restored.lock().unwrap() = restored(NOW, NOW.plus(90));
    world.gateway.houses_look().await;
    assert_eq!((world.gateway.bring_credits().await, brought(&books)), (0, before + 1));
    let notes = books.notes.lock().unwrap().clone();
    assert_eq!(notes.first(), notes.last());
    assert!(
        matches!(&world.gateway.credits(9).await.unwrap()[0].said, HouseSaid::Booked { content: again, .. } if *again == content)
    );
    // A case's note is kept too, and brought again with the others.
    world.gateway.credit(&credit(5)).await.unwrap();
    *books.restored.lock().unwrap() = restored(NOW, NOW.plus(120));
    world.gateway.houses_look().await;
    assert_eq!((world.gateway.bring_credits().await, brought(&books)), (0, before + 4));
}

/// A house adds up what an owner has under way for each note: a note that waits comes when the house has said, and others meanwhile.
#[tokio::test]
async fn a_note_that_waits_is_brought_when_the_house_has_said() {
    let (world, books) = charged().await;
    let brought = |books: &Books| books.notes.lock().unwrap().len();
    let tried = async |world: &World, books: &Books| {
        let before = brought(books);
        (world.gateway.bring_credits().await, brought(books) - before)
    };
    let ask = |amount, again| {
        let (amount, reason) = (Amount::from_ucr(amount), CreditReason::Fault);
        GiveBack { token: TOKEN, amount, reason, author: "hanna".into(), again }
    };
    (*books.refuse.lock().unwrap(), *books.retry_after_s.lock().unwrap()) = (Some(Some(Code::CreditWaits)), Some(600));
    world.gateway.give_back(&ask(1, false)).await.unwrap();
    assert_eq!(tried(&world, &books).await, (0, 0), "not before its time");
    // Nor where a case asks for it.
    assert!(matches!(world.gateway.credit(&credit(2)).await, Err(CreditError::Later(_))));
    let before = brought(&books);
    let Err(CreditError::Later(why)) = world.gateway.credit(&credit(2)).await else { panic!("it waits") };
    assert!(why.contains("looks at it again at") && brought(&books) == before, "{why}");
    // Another is brought, and what the house does not answer is brought at each turn.
    (*books.refuse.lock().unwrap(), *books.retry_after_s.lock().unwrap()) = (Some(None), Some(600));
    world.gateway.give_back(&ask(3, true)).await.unwrap();
    assert_eq!(tried(&world, &books).await, (1, 1));
    assert_eq!(tried(&world, &books).await, (1, 1));
    *books.refuse.lock().unwrap() = None;
    assert_eq!(tried(&world, &books).await, (0, 1));
    world.clock.fetch_add(599, Ordering::SeqCst);
    assert_eq!(tried(&world, &books).await, (0, 0));
    world.clock.fetch_add(1, Ordering::SeqCst);
    assert_eq!(tried(&world, &books).await, (0, 2), "the two that waited");
    assert!(world.gateway.credits(9).await.unwrap().iter().all(|note| matches!(note.said, HouseSaid::Booked { .. })));
}

/// However many wait, those behind them have their turn.
#[tokio::test]
async fn notes_that_wait_are_in_nobodys_way() {
    let (world, books) = charged().await;
    *books.refuse.lock().unwrap() = Some(Some(Code::CreditWaits));
    let put = async |number: u16| {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        let note = Noted {
            id: CreditNoteId(id),
            house: HOUSE,
            token: TOKEN,
            amount: Amount::from_ucr(1),
            reason: CreditReason::Goodwill,
            case: None,
            author: "hanna".into(),
            at: NOW.plus(u64::from(number)),
            said: HouseSaid::Nothing,
        };
        world.store.credit_put(&note).await.unwrap();
    };
    for number in 0..257 {
        put(number).await;
    }
    let bring = async || {
        let before = books.notes.lock().unwrap().len();
        world.gateway.bring_credits().await;
        books.notes.lock().unwrap()[before..].iter().map(|note| note.id).collect::<std::collections::BTreeSet<_>>()
    };
    *books.retry_after_s.lock().unwrap() = Some(600);
    assert_eq!(bring().await.len(), 256);
    assert_eq!(bring().await.len(), 1);
    assert_eq!(bring().await.len(), 0);
}

#[tokio::test]
async fn no_more_is_given_back_than_was_charged_and_nothing_twice_by_mistake() {
    let (world, books) = charged().await;
    let charged = world
        .gateway
        .flagged_charges(&SUBJECT.to_string(), (&model(), 0), (NOW, NOW.plus(60)))
        .await
        .unwrap()
        .remove(0)
        .charged;
    let all = u32::try_from(charged.ucr()).unwrap();
    let ask = |amount, reason, again| GiveBack {
        token: TOKEN,
        amount: Amount::from_ucr(amount),
        reason,
        author: "hanna".into(),
        again,
    };
    let give = async |ask: GiveBack| world.gateway.give_back(&ask).await;
    let too_much = give(ask(all + 1, CreditReason::Goodwill, false)).await;
    assert!(matches!(too_much, Err(GiveBackError::TooMuch { left, .. }) if left == charged));
    assert!(matches!(give(ask(1, CreditReason::Case, false)).await, Err(GiveBackError::Case)));
    assert!(matches!(give(ask(0, CreditReason::Fault, false)).await, Err(GiveBackError::Nothing)));
    let unknown = GiveBack { token: TokenId([9; 16]), ..ask(1, CreditReason::Fault, false) };
    assert!(matches!(give(unknown).await, Err(GiveBackError::Unknown)));
    give(ask(1, CreditReason::Fault, false)).await.unwrap();
    let twice = give(ask(1, CreditReason::Fault, false)).await;
    assert!(matches!(twice, Err(GiveBackError::Before { amount }) if amount == Amount::from_ucr(1)));
    give(ask(1, CreditReason::Goodwill, false)).await.unwrap();
    give(ask(1, CreditReason::Fault, true)).await.unwrap();
    let rest = give(ask(all - 2, CreditReason::Fault, true)).await;
    assert!(matches!(rest, Err(GiveBackError::TooMuch { left, .. }) if left.ucr() == charged.ucr() - 3));
    // What the house declines for good counts no more.
    *books.refuse.lock().unwrap() = Some(Some(Code::CreditTooHigh));
    let declined = give(ask(all - 3, CreditReason::Goodwill, true)).await.unwrap();
    assert!(matches!(declined.said, HouseSaid::Declined { .. }), "{declined:?}");
    *books.refuse.lock().unwrap() = None;
    give(ask(all - 3, CreditReason::Goodwill, true)).await.unwrap();
}

#[tokio::test]
async fn what_flagged_calls_had_cost_is_read_from_receipts() {
    let (world, _books) = charged().await;
    let of = async |subject: Pseudonym, category: u8, from: Timestamp| {
        let model = model();
        let time = (from, NOW.plus(60));
        world.gateway.flagged_charges(&subject.to_string(), (&model, category), time).await.unwrap()
    };
    let political = Category::PoliticalPersuasion.number();
    let [one] = &of(SUBJECT, political, NOW).await[..] else { panic!("one token") };
    let FlaggedCharges { token, receipts, amount, charged } = one.clone();
    assert_eq!((token, receipts), (TOKEN, 1));
    assert!(!amount.is_zero() && amount < charged, "{one:?}");
    // Of another category nothing was flagged; of another time and of another project there is nothing.
    let [none] = &of(SUBJECT, Category::Cbrn.number(), NOW).await[..] else { panic!("one token") };
    assert_eq!((none.receipts, none.amount, none.charged), (0, Amount::ZERO, charged));
    assert_eq!(of(SUBJECT, political, NOW.plus(1)).await[0].receipts, 0);
    assert!(of(Pseudonym([8; 16]), political, NOW).await.is_empty());
}
