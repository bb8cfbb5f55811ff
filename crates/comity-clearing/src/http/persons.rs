//! Persons over HTTP: who a key belongs to, what it may do, what is missing for more.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use comity_http::{Refusal, Signed};
use comity_wire::api::login::{IssuersReply, LoginContinue, LoginReply, LoginRequest, LoginState};
use comity_wire::api::person::{KeyAddRequest, KeyRevokeRequest, MissingReply, TokensStopped, WhoamiReply};
use comity_wire::api::proposal::{ConductReply, ConductRequest, ProposalRequest, SponsorRequest};
use comity_wire::{Code, ProjectId};

use super::calls::{Call, answer_once};
use super::table::Route;
use super::{Answer, Api, MEMBER, Part, answer, project_id};
use crate::service::Clearing;

const LOGIN: &[Code] = &[Code::LoginRefused, Code::UpstreamUnavailable, Code::LimitExceeded, Code::NotFound];

pub(super) fn routes() -> Vec<Route<Api>> {
    vec![
        Route::get("whoami", "/v1/whoami", whoami, "What the house knows of a key, and what is missing for more")
            .signed_by("any key")
            .reply::<WhoamiReply>(),
        Route::get("issuers", "/v1/issuers", issuers, "Where persons can log in").reply::<IssuersReply>(),
        Route::post("login", "/v1/logins", login, "Begin a login at an issuer")
            .signed_by("any key: the login says whose it is")
            .body::<LoginRequest>()
            .reply::<LoginReply>()
            .codes(LOGIN),
        Route::post("continueLogin", "/v1/logins/{id}", login_go_on, "Ask whether a login is done, or bring its code")
            .signed_by("the key that began it")
            .path::<String>("id")
            .body::<LoginContinue>()
            .reply::<LoginState>()
            .codes(LOGIN),
        Route::get("conduct", "/v1/conduct", conduct, "The code of conduct that has to be signed")
            .reply::<ConductReply>()
            .codes(&[Code::NotFound]),
        Route::post("signConduct", "/v1/conduct", conduct_sign, "Sign the code of conduct")
            .signed_by("a key of the person")
            .body::<ConductRequest>()
            .reply::<WhoamiReply>(),
        Route::post("propose", "/v1/projects", propose, "Propose a project")
            .signed_by("a key of a person, who will be its PI")
            .body::<ProposalRequest>()
            .reply::<MissingReply>()
            .codes(&[Code::NotFound, Code::LimitExceeded]),
        Route::post("sponsor", "/v1/projects/{id}/sponsorships", sponsor, "Answer for a member")
            .signed_by("a PI or a co-PI")
            .path::<ProjectId>("id")
            .body::<SponsorRequest>()
            .reply::<MissingReply>()
            .codes(&[Code::NotFound, Code::LimitExceeded]),
        Route::post("addKey", "/v1/keys", key_add, "Add a key of the same person, which agrees to it")
            .signed_by("a key of the person")
            .body::<KeyAddRequest>()
            .reply::<WhoamiReply>()
            .codes(&[Code::LimitExceeded]),
        Route::post("revokeKey", "/v1/keys/revoke", key_revoke, "End a key of the same person")
            .signed_by("a key of the same person")
            .body::<KeyRevokeRequest>()
            .reply::<WhoamiReply>()
            .codes(&[Code::NotFound]),
        Route::get(
            "missing",
            "/v1/projects/{id}/missing",
            missing,
            "All that is missing in a project, and whose move it is",
        )
        .signed_by(MEMBER)
        .path::<ProjectId>("id")
        .reply::<MissingReply>()
        .codes(&[Code::NotFound]),
    ]
}

async fn whoami(State(house): State<Clearing>, call: Signed) -> Answer<WhoamiReply> {
    let reply = house.whoami(&call.caller.key).await?;
    // Anybody may ask, and nothing comes of it: it takes no room among those who may do something.
    call.forget();
    Ok(Json(reply))
}

async fn issuers(State(house): State<Clearing>) -> Json<IssuersReply> {
    Json(house.issuers_shown())
}

async fn login(State(house): State<Clearing>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let request: LoginRequest = call.json()?;
        Ok(house.login_begin(&call.signed.caller.key, request).await?)
    })
    .await
}

/// Not answered from memory: asked again, it says how the login stands now.
async fn login_go_on(State(house): State<Clearing>, Part(id): Part<String>, call: Call) -> Answer<LoginState> {
    let signed = call.signed.clone();
    answer(&signed, async {
        let request: LoginContinue = call.json()?;
        Ok(house.login_go_on(&call.signed.caller.key, &id, request).await?)
    })
    .await
    .map(Json)
}

async fn conduct(State(house): State<Clearing>) -> Answer<ConductReply> {
    Ok(Json(house.conduct().await?))
}

async fn conduct_sign(State(house): State<Clearing>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let request: ConductRequest = call.json()?;
        Ok(house.conduct_sign(&call.signed.caller.key, request).await?)
    })
    .await
}

async fn propose(State(house): State<Clearing>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let request: ProposalRequest = call.json()?;
        Ok(house.propose(&call.signed.caller.key, request).await?)
    })
    .await
}

async fn sponsor(State(house): State<Clearing>, Part(id): Part<String>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let request: SponsorRequest = call.json()?;
        Ok(house.sponsor(&call.signed.caller.key, project_id(&id)?, request).await?)
    })
    .await
}

async fn key_add(State(house): State<Clearing>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let request: KeyAddRequest = call.json()?;
        house.key_add(&call.signed.caller.key, request).await?;
        Ok(house.whoami(&call.signed.caller.key).await?)
    })
    .await
}

async fn key_revoke(State(house): State<Clearing>, call: Call) -> Result<Response, Refusal> {
    answer_once(house, call, |house, call| async move {
        let KeyRevokeRequest { key } = call.json()?;
        let stopped = house.key_revoke(Some(call.signed.caller.key), key).await?;
        let tokens = TokensStopped { tokens: house.tokens_to_end(key).await?, ..stopped };
        Ok(WhoamiReply { tokens: Some(tokens), ..house.whoami(&call.signed.caller.key).await? })
    })
    .await
}

async fn missing(State(house): State<Clearing>, Part(id): Part<String>, call: Signed) -> Answer<MissingReply> {
    answer(&call, async { Ok(house.missing(&call.caller.key, project_id(&id)?).await?) }).await.map(Json)
}
