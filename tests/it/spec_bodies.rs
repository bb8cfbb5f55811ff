//! Every example of a body in spec/09-http.md is read by the type it names, and written again with the same fields.

use std::collections::BTreeSet;
use std::path::Path;

use comity_clearing::service::findings;
use comity_wire::api::{advisory, challenge, clearing, count, credit, decisions, login, node, person, proposal};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn again<T: DeserializeOwned + Serialize>(example: &Value) -> Value {
    let read: T = serde_json::from_value(example.clone()).unwrap_or_else(|error| panic!("{example}: {error}"));
    serde_json::to_value(read).expect("a body has a JSON form")
}

type Body = (&'static str, fn(&Value) -> Value);

/// All bodies that somebody outside has to write or read.
const BODIES: &[Body] = &[
    ("HouseReply", again::<clearing::HouseReply>),
    ("QuoteRequest", again::<clearing::QuoteRequest>),
    ("QuoteReply", again::<clearing::QuoteReply>),
    ("ReservationRequest", again::<clearing::ReservationRequest>),
    ("ReservationReply", again::<clearing::ReservationReply>),
    ("MandateRequest", again::<clearing::MandateRequest>),
    ("MandateReply", again::<clearing::MandateReply>),
    ("MandateRevokeRequest", again::<clearing::MandateRevokeRequest>),
    ("WhoamiReply", again::<person::WhoamiReply>),
    ("ConductReply", again::<proposal::ConductReply>),
    ("ConductRequest", again::<proposal::ConductRequest>),
    ("ProposalRequest", again::<proposal::ProposalRequest>),
    ("SponsorRequest", again::<proposal::SponsorRequest>),
    ("KeyAddRequest", again::<person::KeyAddRequest>),
    ("IssuersReply", again::<login::IssuersReply>),
    ("LoginRequest", again::<login::LoginRequest>),
    ("LoginReply", again::<login::LoginReply>),
    ("LoginContinue", again::<login::LoginContinue>),
    ("LoginState", again::<login::LoginState>),
    ("KeyRevokeRequest", again::<person::KeyRevokeRequest>),
    ("MissingReply", again::<person::MissingReply>),
    ("ChallengeRequest", again::<challenge::ChallengeRequest>),
    ("Challenge", again::<challenge::Challenge>),
    ("ChallengesReply", again::<challenge::ChallengesReply>),
    ("AdvisoriesReply", again::<advisory::AdvisoriesReply>),
    ("FindingsReply", again::<findings::FindingsReply>),
    ("FindingAnswer", again::<findings::FindingAnswer>),
    ("CountsReply", again::<count::CountsReply>),
    ("DecisionsReply", again::<decisions::DecisionsReply>),
    ("DecisionsRequest", again::<decisions::DecisionsRequest>),
    ("CreditNoteRequest", again::<credit::CreditNoteRequest>),
    ("CreditNoteReply", again::<credit::CreditNoteReply>),
    ("CountRequest", again::<count::CountRequest>),
    ("CountReply", again::<count::CountReply>),
    ("AnswerRequest", again::<challenge::AnswerRequest>),
    ("ClaimRequest", again::<clearing::ClaimRequest>),
    ("ClaimReply", again::<clearing::ClaimReply>),
    ("FinalRequest", again::<clearing::FinalRequest>),
    ("FinalReply", again::<clearing::FinalReply>),
    ("RefundRequest", again::<clearing::RefundRequest>),
    ("ProjectReply", again::<clearing::ProjectReply>),
    ("Statement", again::<clearing::Statement>),
    ("TokensReply", again::<clearing::TokensReply>),
    ("EarningsReply", again::<clearing::EarningsReply>),
    ("ExceptionsReply", again::<clearing::ExceptionsReply>),
    ("LogReply", again::<clearing::LogReply>),
    ("LogInclusion", again::<clearing::LogInclusion>),
    ("LogConsistency", again::<clearing::LogConsistency>),
    ("CosignatureRequest", again::<clearing::CosignatureRequest>),
    ("OwnTokenRequest", again::<node::OwnTokenRequest>),
    ("OwnTokenReply", again::<node::OwnTokenReply>),
    ("AcknowledgeRequest", again::<node::AcknowledgeRequest>),
    ("AcknowledgeReply", again::<node::AcknowledgeReply>),
    ("ReceiptReply", again::<node::ReceiptReply>),
    ("LanesReply", again::<node::LanesReply>),
    ("PlansReply", again::<node::PlansReply>),
    ("TermsReply", again::<node::TermsReply>),
    ("AgreementRequest", again::<node::AgreementRequest>),
    ("AgreementsReply", again::<node::AgreementsReply>),
    ("FinalAsk", again::<node::FinalAsk>),
    ("FinalAnswer", again::<node::FinalAnswer>),
    ("NodeReply", again::<node::NodeReply>),
    ("SearchReply", again::<node::SearchReply>),
    ("HeadsReply", again::<node::HeadsReply>),
];

#[test]
fn every_body_has_an_example_that_this_implementation_reads() {
    let chapter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/09-http.md");
    let chapter = std::fs::read_to_string(chapter).expect("spec/09-http.md");
    let mut shown = BTreeSet::new();
    for block in chapter.split("```json ").skip(1) {
        let (name, rest) = block.split_once('\n').expect("a block has a first line");
        let text = rest.split("```").next().expect("a block ends");
        let example: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (name, again) =
            BODIES.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name} is no body"));
        assert_eq!(again(&example), example, "{name}: a field that is not in the type, or one that the example lacks");
        shown.insert(*name);
    }
    let bodies: BTreeSet<_> = BODIES.iter().map(|(name, _)| *name).collect();
    assert_eq!(shown, bodies, "bodies that are shown, and bodies that there are");
}
