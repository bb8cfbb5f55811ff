//! What happens on the stage.

use std::time::Duration;

use comity_sdk::client::Finished;
use comity_sdk::{Answer, Client, Query};
use comity_token::Narrow;
use comity_token::directory::Directory as _;
use comity_token::request::{Authority, sign_request};
use comity_wire::api::node::SearchQuery;
use comity_wire::object::{Block, Chain, Token};
use comity_wire::{Amount, Code, Digest, ModelId, Op, SecretKey, Signed, TokenId};
use http::Method;
use serde_json::json;

use super::children;
use super::report::{AnswerSeen, RefusalSeen, Report};
use super::stage::{AWARD, Stage, tell};
use crate::failure::Failure;
use crate::shell;

/// Room for one question and a part of another.
const STUDENT_CAP: Amount = Amount::from_ucr(60);
/// For the models that talk.
const QUESTION: &str = "What is the capital of France?";
/// What the owners offer together.
const MODELS: usize = 4;
/// Gossip brings the feeds within seconds, a comparison within a minute where gossip failed.
const DISCOVERY_TRIES: u32 = 180;

/// Plays the story and adds up what was seen.
pub(super) async fn play(stage: &mut Stage) -> Result<Report, Failure> {
    let mut report = Report { nodes: stage.nodes(), awarded_ucr: AWARD, ..Report::default() };
    let client = stage.client("researcher", Some(stage.member.clone()))?;

    tell("the researcher looks for models");
    let models = discover(&client).await?;
    report.models = models.len();
    let find = |name: &str| models.iter().find(|model| model.as_str() == name).cloned();
    let missing = || Failure::new("a model is missing from the search");
    let university = find("university/tiny").ok_or_else(missing)?;
    let lab = find("lab/tiny-b").ok_or_else(missing)?;
    let office = find("agency/flood-risk").ok_or_else(missing)?;

    tell("the university's model is open: its node issues a free token itself");
    chat(&client, &university, &mut report).await?;

    tell("the lab's model asks for registration: the clearing house sells a token");
    known_at_the_house(&client, &lab, Op::Chat).await?;
    known_at_the_house(&client, &office, Op::Predict).await?;
    let token = client.buy(&lab, Amount::credits(1), 4).await?;
    chat(&client, &lab, &mut report).await?;

    tell("the agency has a risk score, and refuses: its policy asks for vetting, and for its own grant");
    let agency_token = agency(&client, stage, &office, &mut report).await?;

    tell("the researcher delegates to a student, whose cap stops them at the node");
    student(&client, stage, &lab, token, &mut report).await?;

    tell("finals: what was not spent goes home at once");
    for token in [token, agency_token] {
        finish(&client, token, &mut report).await?;
    }
    settle(&client, stage, &mut report).await?;
    Ok(report)
}

/// Waits until every model was found.
async fn discover(client: &Client) -> Result<Vec<ModelId>, Failure> {
    let mut last = None;
    for _ in 0..DISCOVERY_TRIES {
        match client.search(&SearchQuery::default()).await {
            Ok(hits) if hits.len() >= MODELS => return Ok(hits.iter().map(|hit| hit.summary.model.clone()).collect()),
            Ok(_) => {}
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let failure = Failure::new("the models did not appear at the hub within a minute and a half");
    Err(match last {
        Some(error) => failure.because(error),
        None => failure,
    })
}

/// The house learns of a node as everyone does, by its feed; until then it has nothing to quote.
async fn known_at_the_house(client: &Client, model: &ModelId, op: Op) -> Result<(), Failure> {
    let mut tries = 0;
    while let Err(error) = client.quote(model, &[op]).await {
        tries += 1;
        if tries > DISCOVERY_TRIES || error.code() != Some(Code::NotFound) && error.code() != Some(Code::ModelNotFound)
        {
            return Err(Failure::new(format!("the clearing house gives no quote for {model}")).because(error));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

async fn chat(client: &Client, model: &ModelId, report: &mut Report) -> Result<(), Failure> {
    let query = Query::chat(model.clone(), &[("user", QUESTION)], Some(24), false);
    ask(client, &query, QUESTION, |answer| answer.text(), report).await
}

/// Asks, and reports what came.
async fn ask(
    client: &Client,
    query: &Query,
    question: &str,
    text: impl FnOnce(&Answer) -> Option<String>,
    report: &mut Report,
) -> Result<(), Failure> {
    let answer = client.ask(query).await?;
    report.queries += 1;
    report.receipts_verified += 1;
    report.charged_ucr = report.charged_ucr.saturating_add(answer.receipt.charge);
    report.answers.push(AnswerSeen {
        model: query.model.to_string(),
        question: question.to_owned(),
        text: text(&answer).ok_or_else(|| Failure::new(format!("{} answered something else", query.model)))?,
        cost: answer.receipt.charge,
    });
    Ok(())
}

/// Two houses, one by the river, one on the hill.
fn houses(model: &ModelId) -> Result<Query, Failure> {
    let house = |elevation_m: f64, river_km: f64| json!({"elevation_m": elevation_m, "river_km": river_km, "rain_mm_day": 90, "sealed_percent": 40, "floods_before": 1});
    let body = json!({"model": model, "inputs": [house(2.0, 0.2), house(55.0, 20.0)]});
    Ok(Query::from_body("/v1/predict", serde_json::to_vec(&body)?)?)
}

/// `high 0.86, low 0.004`.
fn risks(answer: &Answer) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    let risk = |output: &serde_json::Value| Some(format!("{} {}", output["band"].as_str()?, output["risk"].as_f64()?));
    let risks: Option<Vec<_>> = body["outputs"].as_array()?.iter().map(risk).collect();
    Some(risks?.join(", "))
}

/// A call that must be refused, for exactly one reason.
async fn refused(client: &Client, query: &Query, case: &str, code: Code, report: &mut Report) -> Result<(), Failure> {
    match client.ask(query).await {
        Ok(_) => Err(Failure::new(format!("{case}: it was answered, {code} was due"))),
        Err(error) if error.code() == Some(code) => {
            report.refusals.push(RefusalSeen { case: case.to_owned(), code: code.to_string() });
            Ok(())
        }
        Err(error) => Err(Failure::new(format!("{case}: {code} was due")).because(error)),
    }
}

async fn agency(client: &Client, stage: &Stage, model: &ModelId, report: &mut Report) -> Result<TokenId, Failure> {
    let query = houses(model)?;
    let early = client.buy(model, Amount::credits(1), 0).await?;
    refused(client, &query, "agency, project only registered", Code::VettingTooLow, report).await?;
    finish(client, early, report).await?;
    let house = stage.home("house");
    let project = stage.project.to_string();
    children::run(&["clearing", "project", "vet", "--home", &house, &project, "vetted"]).await?;
    let token = client.buy(model, Amount::credits(1), 0).await?;
    refused(client, &query, "agency, vetted, not yet granted by it", Code::GrantRequired, report).await?;
    let subject = subject(client, stage, model).await?;
    let agency = stage.home("agency");
    let grant =
        ["requests", "grant", "--home", &agency, "--subject", &subject, "--model", model.as_str(), "--tier", "t2"];
    children::run(&grant).await?;
    tell("the agency has granted: the same request, in the same place of the sequence, is answered");
    ask(client, &query, "flood risk of two houses", risks, report).await?;
    Ok(token)
}

/// What the agency knows the project by.
async fn subject(client: &Client, stage: &Stage, model: &ModelId) -> Result<String, Failure> {
    let directory = client.directory();
    let org = directory.roster().organisation_named(model.organisation()).map(|org| org.id);
    let project = client.project().await?;
    let known = project.pseudonyms.iter().find(|pseudonym| Some(pseudonym.org) == org);
    let known = known.ok_or_else(|| Failure::new(format!("{} has no pseudonym at the agency", stage.project)))?;
    Ok(known.subject.to_string())
}

async fn student(
    client: &Client,
    stage: &Stage,
    model: &ModelId,
    token: TokenId,
    report: &mut Report,
) -> Result<(), Failure> {
    let key = SecretKey::from_seed(shell::random());
    let narrow = Narrow {
        cap: STUDENT_CAP,
        expires_at: client.now().plus(3600),
        lanes: 2,
        depth: 0,
        models: Vec::new(),
        ops: Vec::new(),
        next: key.public(),
    };
    let chain = client.delegate(token, narrow).await?;
    let student = stage.client("student", None)?;
    student.refresh().await?;
    student.adopt(&chain, &key, Amount::MAX).await?;
    chat(&student, model, report).await?;
    beyond_the_cap(&student, &chain, &key, model, report).await?;
    student.acknowledge(token).await?;
    Ok(())
}

/// The wallet would stop by itself; here the student signs past it, and the node stops them.
async fn beyond_the_cap(
    student: &Client,
    chain: &[u8],
    key: &SecretKey,
    model: &ModelId,
    report: &mut Report,
) -> Result<(), Failure> {
    let query = Query::chat(model.clone(), &[("user", QUESTION)], Some(120), false);
    let parts = Chain::from_bytes(chain)?;
    let leaf = Signed::<Block>::decode(parts.blocks.last().expect("the chain was delegated"))?.id();
    let token = Signed::<Token>::decode(&parts.token)?;
    let scope = token.unverified().scope_of(model).ok_or_else(|| Failure::new("the token is for another model"))?;
    let authority = Authority {
        leaf,
        lane: 1,
        seq: 1,
        method: "POST".to_owned(),
        path: query.path.to_owned(),
        query: String::new(),
        content_digest: Digest::of(&query.body),
        tariff: scope.tariff,
        // Enough for the call's worst case; the cap is not.
        max_charge: Amount::from_ucr(1_000),
        nonce: shell::random(),
    };
    let mut headers = sign_request(&authority, student.now(), key);
    headers.push(("content-type", "application/json".to_owned()));
    let case = "student, beyond the delegated cap";
    match student.door_of(model).await?.send(Method::POST, query.path, headers, query.body.into()).await {
        Err(error) if error.code() == Some(Code::BudgetExhausted) => {
            report.refusals.push(RefusalSeen { case: case.to_owned(), code: Code::BudgetExhausted.to_string() });
            Ok(())
        }
        Err(error) => Err(Failure::new(format!("{case}: budget_exhausted was due")).because(error)),
        Ok(_) => Err(Failure::new(format!("{case}: it was answered"))),
    }
}

/// Ends the token, with the part of it that the student had.
async fn finish(client: &Client, token: TokenId, report: &mut Report) -> Result<(), Failure> {
    let Finished { reply, .. } = client.take_back(token).await?;
    if let Some(reply) = reply {
        report.refunded_ucr = report.refunded_ucr.saturating_add(reply.refunded);
    }
    Ok(())
}

/// Waits until the owners' claims were paid, then reads the books.
async fn settle(client: &Client, stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let mut project = client.project().await?;
    for _ in 0..DISCOVERY_TRIES {
        if project.in_escrow.is_zero() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        project = client.project().await?;
    }
    report.settled_ucr = project.settled;
    report.available_ucr = project.available;
    let audit = children::run(&["ledger", "audit", "--home", &stage.home("house"), "--json"]).await?;
    let audit: serde_json::Value = serde_json::from_str(&audit)?;
    let holds = audit.get("holds").and_then(serde_json::Value::as_bool);
    if holds != Some(true) {
        return Err(Failure::new("the audit found a break in the books").because(audit.to_string()));
    }
    report.ledger_sum_ucr = audit.get("ledger_sum_ucr").and_then(serde_json::Value::as_i64).unwrap_or(i64::MAX);
    Ok(())
}
