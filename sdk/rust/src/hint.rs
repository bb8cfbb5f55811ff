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
        match (self.refusal(), self.code(), self.root()) {
            (Some(refusal), ..) => &refusal.remote.code,
            (None, Some(code), _) => code.as_str(),
            (None, None, Self::ModelUnknown(_) | Self::NoChoice { .. }) => Code::ModelNotFound.as_str(),
            (None, None, Self::KeyConflict) => Code::IdempotencyConflict.as_str(),
            (None, None, Self::Limit { .. } | Self::TokenLimit { .. } | Self::DayLimit { .. } | Self::Wallet(_)) => {
                "wallet_limit"
            }
            (None, None, Self::Unpriced(_)) => Code::OpNotOffered.as_str(),
            (None, None, Self::Roster { .. } | Self::NotARoster { .. } | Self::Profile(_) | Self::Refused(_)) => {
                "profile"
            }
            (None, None, Self::Journal(_) | Self::Seal(_) | Self::LooksOnly | Self::HandedOn { .. }) => "wallet",
            (None, None, Self::NoDoor(_) | Self::Silent(_)) => Code::NodeUnreachable.as_str(),
            (None, None, Self::Door(DoorError::Dial { .. })) if self.is_unsent() => Code::NodeUnreachable.as_str(),
            (None, None, _) if matches!(self, Self::InDoubt { source, .. } if source.is_unsent()) => {
                Code::NodeUnreachable.as_str()
            }
            (None, None, Self::Ended { .. }) => Code::Stale.as_str(),
            (None, None, Self::NoReceipt) => "receipt_missing",
            (None, None, Self::Receipt(_) | Self::Fault(_) | Self::Equivocation(_)) => "receipt_wrong",
            _ => Code::UpstreamFailed.as_str(),
        }
    }

    /// What to do next, and whose move it is: of what we know of, in our words, else in the other side's. `None` where the message
    /// says it all.
    pub fn hint(&self) -> Option<String> {
        if self.is_in_doubt() {
            return Some(IN_DOUBT.to_owned());
        }
        let Some(refusal) = self.refusal() else {
            return self.code().and_then(of_code).or_else(|| self.of_kind()).map(str::to_owned);
        };
        let known = match self.code() {
            Some(Code::LimitExceeded) if self.is_of_a_mandate() => Some(OF_A_MANDATE),
            code => code.and_then(of_code),
        };
        let general = || if self.should_retry() { PASSES } else { STAYS };
        let said = || refusal.remote.hint.clone();
        known.map(str::to_owned).or_else(said).or_else(|| Some(general().to_owned()))
    }

    /// The house names no rule of an owner's: what it bounds is what may be drawn.
    fn is_of_a_mandate(&self) -> bool {
        self.code() == Some(Code::LimitExceeded)
            && self.refusal().is_some_and(|refusal| refusal.remote.message.contains(UNDER_A_MANDATE))
    }

    /// The limit that stopped the call, by the name under which it can be changed or looked up; `None` where none did.
    pub fn limit(&self) -> Option<String> {
        let name = match self.root() {
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
            Code::LimitExceeded if self.is_of_a_mandate() => Some("mandate.cap"),
            _ => None,
        };
        rule.map(|rule| format!("owner.{rule}")).or_else(|| by_code().map(str::to_owned))
    }

    fn of_kind(&self) -> Option<&'static str> {
        Some(match self.root() {
            Self::Limit { .. } => {
                "your own limit: `comity wallet limits --total` raises it; `comity wallet finish` ends tokens, and what they did not spend counts no more"
            }
            Self::TokenLimit { .. } => {
                "your own limit: ask for less (a smaller max_tokens), or raise it with `comity wallet limits --token`"
            }
            Self::DayLimit { .. } => {
                "your own limit: wait for the next day (UTC), or raise it with `comity wallet limits --day`; `none` takes it away"
            }
            Self::Wallet(error) => return of_wallet(error),
            Self::Roster { .. } | Self::NotARoster { .. } => {
                "get the roster from its signers again, and name it as `roster` in profile.toml"
            }
            Self::Refused(_) => "get the newest roster from its signers; what does not verify under it is not used",
            Self::Profile(what) if what.starts_with("project") => {
                "write `project = \"proj-…\"` into profile.toml; `comity project propose`, or your PI, has it"
            }
            Self::Profile(what) if what.starts_with("member_key") => {
                "name it as `member_key` in profile.toml; `comity init` makes one where there is no profile yet"
            }
            Self::Profile(what) if what.starts_with("entry") => {
                "write `entry = [\"https://HUB\"]` into profile.toml: any hub or node of the federation"
            }
            Self::ModelUnknown(_) => "`comity models search` lists those that are known",
            Self::NoChoice { .. } | Self::NoFit { .. } => {
                "leave a condition out, or ask what you lack: `comity models search` says of each model whether you may use it"
            }
            Self::Silent(_) => "try again later, or choose another model: `comity models search`",
            Self::NoDoor(_) => "its owner has to announce a door: try again later, or choose another model",
            Self::Unpriced(_) => "`comity models show MODEL` says what it can be asked; its owner decides",
            Self::Journal(error) => return Some(of_journal(error)),
            Self::Ended { .. } => {
                "is this computer's clock ahead? Set it and try again; where it is right, the owner has ceased to publish, or the entry of profile.toml is cut off: name another"
            }
            Self::Door(DoorError::Dial { .. }) if self.is_unsent() => {
                "nothing was sent. Is this computer online? Else whoever runs it has to bring it up: try again later, or choose another model (`comity models search`), or another hub (`entry` in profile.toml)"
            }
            Self::OtherRelease { .. } => "its owner has changed the model: ask again in a minute",
            Self::Door(DoorError::Dial { .. }) => {
                "try again: what was sent is known to the wallet and is not charged twice; `comity models search` asks whether the federation can be reached"
            }
            Self::NoReceipt | Self::Fault(_) | Self::Receipt(_) => EVIDENCE,
            Self::Seal(error) => return error.hint(),
            Self::Equivocation(_) => "tell the federation's signers; both feeds are the proof",
            Self::Cut(_) => "what was delivered is receipted and charged, and no more; ask again",
            Self::Door(_) | Self::Unverified(_) | Self::Malformed(_) | Self::Missing(_) => {
                "one of the two sides may be out of date: a newer version of this program, or another `entry` in profile.toml"
            }
            Self::HandedOn { .. } => {
                "it is ended once that is over (`comity wallet finish`); `comity wallet revoke TOKEN` ends it now, with what was handed on"
            }
            Self::LooksOnly => "open it without `look`, once no other program uses the wallet",
            _ => return None,
        })
    }
}

const IN_DOUBT: &str = "ask the same again in a minute: its node is asked first what became of it, and nobody is paid twice. Until its token is settled, a day or two, only another question, or another key, asks somebody else";
const EVIDENCE: &str = "keep the wallet's folder: it is your evidence. `comity receipts verify` says what is wrong; show it to the clearing house";
/// In what the house says.
const UNDER_A_MANDATE: &str = "under this mandate";
const OF_A_MANDATE: &str = "the cap of the mandate you draw under, in all, of a day or of a model: ask for less, or see with `comity mandate show` what is left; your PI can raise it, and `comity wallet finish` sends home what your tokens still hold";
const PASSES: &str = "try again in a minute; if it stays so, tell whoever runs it the code and the time";
const STAYS: &str = "trying again does not help: tell whoever runs it the code and the time";

fn of_wallet(error: &WalletError) -> Option<&'static str> {
    Some(match error {
        WalletError::Budget { .. } => {
            "ask for less (a smaller max_tokens); whoever gave you this token can give you a larger one (`comity delegate`)"
        }
        WalletError::Window { .. } => "ask for less at once (a smaller max_tokens): the owner set the window",
        WalletError::Ended | WalletError::Unknown(_) => {
            "ask again, and a new one is drawn; where somebody gave it to you, ask them for another"
        }
        WalletError::Stopped { .. } => EVIDENCE,
        WalletError::Delegated(_) => "delegate from another token, or give each of many a mandate (`comity mandate`)",
        WalletError::LanesBusy(_) => "wait for a call to end, or ask fewer at once",
        WalletError::Journal => of_broken_journal(),
        _ => return None,
    })
}

const fn of_broken_journal() -> &'static str {
    "keep the folder: it is what you are owed and what you signed. Put back a copy of the whole of it, or begin another with `--home`, and ask your PI to end what the old one drew"
}

fn of_journal(error: &JournalError) -> &'static str {
    match error {
        JournalError::Locked { .. } => {
            "end the other program (`comity proxy`, a notebook), or ask through its proxy; `--home` names another wallet"
        }
        JournalError::Open { .. } => "the home folder has to be yours to read and write",
        JournalError::Line { .. } | JournalError::Cut { .. } => of_broken_journal(),
        JournalError::Newer { .. } => {
            "update comity (`comity --version` says which this one is); the folder is as it should be"
        }
        JournalError::Archive { .. } => {
            "put it back from a copy of the folder: old receipts are in it. Asking and paying need it not"
        }
        JournalError::Write { .. } | JournalError::Broken { .. } => {
            "make room on the disk, or the folder writable, and start again: nothing is sent that was not written down"
        }
    }
}

/// For whoever asks a model. Codes that only operators and programs meet are left to what comes with them.
fn of_code(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::GrantRequired => {
            "apply to the model's owner with `comity access apply MODEL`; once it is granted the same call succeeds"
        }
        Code::VettingTooLow => {
            "`comity whoami` says what is missing, and whose move it is; a token keeps the vetting with which it was drawn: once nothing is missing, `comity wallet finish`, and ask again"
        }
        Code::TermsNotSigned => "`comity access terms show MODEL` prints them, `comity access terms sign` agrees",
        Code::PurposeNotAllowed => {
            "`comity models show MODEL` says for which purposes its owner gives it; another model may be for yours, or your PI proposes a project that has one of those: `comity project propose`"
        }
        Code::BudgetExhausted | Code::MaxTooLow => {
            "raise the cap or ask for less: a shorter answer (--max-tokens, max_tokens) costs less"
        }
        Code::BudgetInFlight => "wait until a call that is under way has ended, or ask fewer at once",
        Code::BalanceTooLow => {
            "see with `comity project` what is left of the award: what your other tokens hold goes home with `comity wallet finish`; where nothing is left, your PI asks the funder for more"
        }
        Code::StandingStale | Code::RosterBehind => "the node is catching up: try again in a minute",
        Code::RosterExpired => {
            "the federation's signers have to sign a newer roster: tell the operator of the node or house"
        }
        Code::Stale | Code::NotYetValid => "this computer's clock is off: set it and try again",
        Code::Expired => "ask again: a new token is drawn; where somebody gave it to you, ask them for another",
        Code::ModelStarting | Code::UpstreamUnavailable => "the owner's model is not up: try again later",
        Code::UpstreamFailed => {
            "the owner's server broke: ask again; if it stays so, the owner has to mend it (`comity models show MODEL` has a contact)"
        }
        Code::NodeUnreachable => "its owner has to bring the node up: try again later, or choose another model",
        Code::Stopped => "the owner has stopped it: nobody but the owner can resume it",
        Code::ModelNotFound => "`comity models search` lists those that there are; its owner may have taken it away",
        Code::Withdrawn => "its owner offers it no more: `comity models search` lists what there is",
        Code::OpNotOffered => "`comity models show MODEL` says what it can be asked; its owner decides",
        Code::TooManyRequests | Code::Throttled => {
            "wait as long as it says (Retry-After), or ask fewer at once; the owner sets the pace, and can be asked for more"
        }
        Code::OutsideHours => "wait until the owner's hours begin: it says when",
        Code::Busy => "try again in a moment",
        Code::LimitExceeded => {
            "ask for less at once: `comity models show MODEL` has the owner's limits; the owner can be asked for more"
        }
        Code::BodyTooLarge | Code::TooLarge | Code::ContextLengthExceeded => {
            "shorten the prompt, or the answer (max_tokens): `comity models show MODEL` says what it takes"
        }
        Code::ContentFilter => {
            "the owner's rules block this text: `comity models show MODEL` names them; word it otherwise, or ask the owner"
        }
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
    fn whoever_is_told_no_is_told_what_comes_next() {
        for code in Code::ALL.iter().copied() {
            let body = serde_json::json!({"error": {"code": code.as_str(), "message": "no"}}).to_string();
            let remote = comity_http::RemoteError::read(code.status(), &http::HeaderMap::new(), body.as_bytes());
            let refusal = crate::door::Refusal {
                message: "no".to_owned(),
                remote,
                receipt: None,
                headers: Vec::new(),
                repeated: false,
            };
            let error = Error::Door(DoorError::Refused(Box::new(refusal)));
            assert!(error.hint().is_some_and(|hint| hint.len() > 20), "{code}");
        }
        let no_op = WalletError::Budget { asked: Amount::credits(2), free: Amount::ZERO };
        for error in [
            Error::Limit { limit: Amount::ZERO, asked: Amount::ZERO },
            Error::TokenLimit { limit: Amount::ZERO, needed: Amount::ZERO },
            Error::DayLimit { limit: Amount::ZERO, today: Amount::ZERO, asked: Amount::ZERO },
            Error::Wallet(no_op),
            Error::Ended { at: comity_wire::Timestamp(1), now: comity_wire::Timestamp(2) },
        ] {
            assert!(error.hint().is_some(), "{error}");
        }
    }

    #[test]
    fn a_cap_of_a_mandate_is_not_an_owners_limit() {
        let refused = |message: &str| {
            let body = serde_json::json!({"code": "limit_exceeded", "detail": message}).to_string();
            let remote = comity_http::RemoteError::read(403, &http::HeaderMap::new(), body.as_bytes());
            let refusal = crate::door::Refusal {
                message: message.to_owned(),
                remote,
                receipt: None,
                headers: Vec::new(),
                repeated: false,
            };
            Error::Door(DoorError::Refused(Box::new(refusal)))
        };
        let capped = refused("drawn under this mandate: at most 200 µcr more of 200 µcr");
        assert_eq!(capped.limit().as_deref(), Some("mandate.cap"));
        assert!(capped.hint().unwrap().contains("your PI"));
        let other = refused("lanes: at most 32");
        assert_eq!(other.limit(), None);
        assert!(!other.hint().unwrap().contains("your PI"));
    }

    #[test]
    fn a_lost_key_and_a_busy_wallet_say_what_to_do() {
        let hint = |error: Error| error.hint().unwrap();
        assert!(hint(Error::Profile("member_key: the key registered at the clearing house")).contains("member_key"));
        assert!(hint(Error::Journal(JournalError::Locked { path: "w".into() })).contains("comity proxy"));
        assert!(hint(Error::NoReceipt).contains("evidence"));
    }
}
