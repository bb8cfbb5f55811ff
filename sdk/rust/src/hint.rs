//! What a person can do about an error, and which limit stopped a call: for people ([`Error::hint`]) and for programs
//! ([`Error::limit`]).

use comity_wire::Code;

use crate::client::Error;
use crate::door::DoorError;
use crate::journal::JournalError;
use crate::wallet::WalletError;

impl Error {
    /// A word for programs: the other side's code, or one of ours where nobody was asked or nothing came.
    pub fn name(&self) -> &str {
        match (self.refusal(), self.code(), self) {
            (Some(refusal), ..) => &refusal.remote.code,
            (None, Some(code), _) => code.as_str(),
            (None, None, Self::ModelUnknown(_)) => Code::ModelNotFound.as_str(),
            (None, None, Self::KeyConflict) => Code::IdempotencyConflict.as_str(),
            (None, None, Self::Limit { .. } | Self::TokenLimit { .. } | Self::DayLimit { .. } | Self::Wallet(_)) => {
                "wallet_limit"
            }
            (None, None, Self::Unpriced(_)) => Code::OpNotOffered.as_str(),
            (None, None, Self::Roster { .. } | Self::Profile(_) | Self::Refused(_)) => "profile",
            (None, None, Self::Journal(_) | Self::LooksOnly) => "wallet",
            (None, None, Self::NoDoor(_)) => Code::NodeUnreachable.as_str(),
            (None, None, Self::NoReceipt) => "receipt_missing",
            (None, None, Self::Receipt(_) | Self::Fault(_) | Self::Equivocation(_)) => "receipt_wrong",
            _ => Code::UpstreamFailed.as_str(),
        }
    }

    /// What to do next, and whose move it is. `None` where the message says it all.
    pub fn hint(&self) -> Option<String> {
        let known = self.code().and_then(of_code).or_else(|| self.of_kind());
        let said = || self.refusal().and_then(|refusal| refusal.remote.hint.clone());
        known.map(str::to_owned).or_else(said)
    }

    /// The limit that stopped the call, by the name under which it can be changed or looked up; `None` where none did.
    pub fn limit(&self) -> Option<String> {
        let name = match self {
            Self::Limit { .. } => "limits.total",
            Self::TokenLimit { .. } => "limits.token",
            Self::DayLimit { .. } => "limits.day",
            Self::Wallet(WalletError::Budget { .. }) => "token.budget",
            Self::Wallet(WalletError::Window { .. }) => "token.window",
            _ => return self.remote_limit(),
        };
        Some(name.to_owned())
    }

    /// A node names the rule it refused by; the house's codes are names of limits by themselves.
    fn remote_limit(&self) -> Option<String> {
        let fields = &self.refusal()?.remote.fields;
        let rule = fields.get("rule").and_then(|rule| rule.get("limit")).and_then(serde_json::Value::as_str);
        let by_code = || match self.code()? {
            Code::BudgetExhausted | Code::BudgetInFlight => Some("token.budget"),
            Code::BalanceTooLow => Some("project.award"),
            Code::MaxTooLow => Some("max_charge"),
            _ => None,
        };
        rule.map(|rule| format!("owner.{rule}")).or_else(|| by_code().map(str::to_owned))
    }

    fn of_kind(&self) -> Option<&'static str> {
        Some(match self {
            Self::Roster { .. } => "get the roster from its signers again, and name it as `roster` in profile.toml",
            Self::Profile(what) if what.starts_with("project") => {
                "write `project = \"proj-…\"` into profile.toml; `comity project propose`, or your PI, has it"
            }
            Self::Profile(what) if what.starts_with("member_key") => "make one with `comity init`",
            Self::Profile(what) if what.starts_with("entry") => {
                "write `entry = [\"https://HUB\"]` into profile.toml: any hub or node of the federation"
            }
            Self::ModelUnknown(_) => "`comity models search` lists those that are known",
            Self::NoDoor(_) => "its owner has to announce a door: try again later, or choose another model",
            Self::Journal(JournalError::Locked { .. }) => {
                "end the other program (`comity proxy`, a notebook), or ask through its proxy; `--home` names another wallet"
            }
            Self::Door(DoorError::Dial { .. }) => {
                "try again: what was sent is known to the wallet and is not charged twice; `comity models search` asks whether the federation can be reached"
            }
            Self::NoReceipt | Self::Fault(_) | Self::Receipt(_) | Self::Wallet(WalletError::Stopped { .. }) => {
                "keep the wallet's folder: it is your evidence. `comity receipts verify` says what is wrong; show it to the clearing house"
            }
            Self::Equivocation(_) => "tell the federation's signers; both feeds are the proof",
            Self::Cut(_) => "what was delivered is receipted and charged, and no more; ask again",
            _ => return None,
        })
    }
}

fn of_code(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::GrantRequired => {
            "apply to the model's owner with `comity access apply MODEL`; once it is granted the same call succeeds"
        }
        Code::VettingTooLow => {
            "`comity whoami` says what is missing, and whose move it is; a token keeps the vetting with which it was drawn: once nothing is missing, `comity wallet finish`, and ask again"
        }
        Code::TermsNotSigned => "`comity access terms show MODEL` prints them, `comity access terms sign` agrees",
        Code::BudgetExhausted | Code::MaxTooLow => "raise the cap or ask for less: a shorter --max-tokens costs less",
        Code::BalanceTooLow => "the project's award is spent: see `comity project`",
        Code::StandingStale | Code::RosterBehind => "the node is catching up: try again in a minute",
        Code::Stale => "this computer's clock is off: set it and try again",
        Code::ModelStarting | Code::UpstreamUnavailable => "the owner's model is not up: try again later",
        Code::Stopped => "the owner has stopped it: nobody but the owner can resume it",
        Code::NotRegistered => "register your member key at the clearing house: `comity login`, or ask its operator",
        Code::MandateRequired => "ask your PI for a mandate, and take it in with `comity mandate redeem`",
        Code::Revoked => "somebody revoked the token: ask your PI, and draw a new one by asking again",
        Code::Frozen => "the house has frozen the project: `comity project status` says why, and whose move it is",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use comity_wire::Amount;

    use super::*;

    #[test]
    fn a_users_own_limit_is_named() {
        let (limit, asked) = (Amount::credits(1), Amount::credits(2));
        let named = |error: Error| error.limit().unwrap();
        assert_eq!(named(Error::Limit { limit, asked }), "limits.total");
        assert_eq!(named(Error::TokenLimit { limit, needed: asked }), "limits.token");
        assert_eq!(named(Error::DayLimit { limit, today: Amount::ZERO, asked }), "limits.day");
        assert_eq!(Error::KeyConflict.limit(), None);
    }

    #[test]
    fn a_lost_key_and_a_busy_wallet_say_what_to_do() {
        let hint = |error: Error| error.hint().unwrap();
        assert!(hint(Error::Profile("member_key: the key registered at the clearing house")).contains("comity init"));
        assert!(hint(Error::Journal(JournalError::Locked { path: "w".into() })).contains("comity proxy"));
        assert!(hint(Error::NoReceipt).contains("evidence"));
    }
}
