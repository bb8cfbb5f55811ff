//! What a site has to be asked for, so that it has what the house has.

use super::flow::Flow;

/// How a project or an account stands at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Standing {
    /// It was asked for, and is not there yet.
    Asked = 0,
    Active = 1,
    Inactive = 2,
}

impl Standing {
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Asked),
            1 => Some(Self::Active),
            2 => Some(Self::Inactive),
            _ => None,
        }
    }

    pub const fn word(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }
}

/// What the house knows of a project or an account at a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub standing: Standing,
    /// What failed there last. It is not asked for again until the operator says so.
    pub refused: Option<Flow>,
    /// Whether a transaction about it waits for the site.
    pub waits: bool,
}

impl Known {
    fn unless_refused(self, flow: Flow) -> Option<Flow> {
        (!self.waits && self.refused != Some(flow)).then_some(flow)
    }
}

/// What is due of a project that the site knows.
pub fn project_due(known: Known, frozen: bool) -> Option<Flow> {
    match (known.standing, frozen) {
        (Standing::Active, true) => known.unless_refused(Flow::ProjectInactivate),
        (Standing::Inactive, false) => known.unless_refused(Flow::ProjectReactivate),
        _ => None,
    }
}

/// What is due of an account, while its project is active at the site. `known` is none where the site never had it; `changed`
/// says that the site knows other things of the person than the house says.
pub fn account_due(known: Option<Known>, member: bool, changed: bool) -> Option<Flow> {
    match (known.map(|known| known.standing), member) {
        (None, true) => Some(Flow::AccountCreate),
        (Some(Standing::Asked), true) => known.and_then(|known| known.unless_refused(Flow::AccountCreate)),
        (Some(Standing::Active), false) => known.and_then(|known| known.unless_refused(Flow::AccountInactivate)),
        (Some(Standing::Active), true) if changed => known.and_then(|known| known.unless_refused(Flow::UserModify)),
        (Some(Standing::Inactive), true) => known.and_then(|known| known.unless_refused(Flow::AccountReactivate)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(standing: Standing) -> Known {
        Known { standing, refused: None, waits: false }
    }

    #[test]
    fn a_site_is_asked_for_what_it_lacks_and_for_nothing_else() {
        use Standing::*;
        let projects = [
            (Asked, false, None),
            (Asked, true, None),
            (Active, false, None),
            (Active, true, Some(Flow::ProjectInactivate)),
            (Inactive, false, Some(Flow::ProjectReactivate)),
            (Inactive, true, None),
        ];
        for (standing, frozen, due) in projects {
            assert_eq!(project_due(known(standing), frozen), due, "{standing:?} {frozen}");
        }
        let accounts = [
            (None, true, Some(Flow::AccountCreate)),
            (None, false, None),
            (Some(Asked), true, Some(Flow::AccountCreate)),
            (Some(Asked), false, None),
            (Some(Active), true, None),
            (Some(Active), false, Some(Flow::AccountInactivate)),
            (Some(Inactive), true, Some(Flow::AccountReactivate)),
            (Some(Inactive), false, None),
        ];
        for (standing, member, due) in accounts {
            assert_eq!(account_due(standing.map(known), member, false), due, "{standing:?} {member}");
            // Of a person that changed, a site that has the account is told, once the account is what it has to be.
            let told = (standing == Some(Active) && member).then_some(Flow::UserModify);
            let due = due.or(told);
            assert_eq!(account_due(standing.map(known), member, true), due, "{standing:?} {member}");
        }
    }

    #[test]
    fn what_waits_or_was_refused_is_not_asked_for_again() {
        let active = known(Standing::Active);
        assert_eq!(project_due(Known { waits: true, ..active }, true), None);
        let refused = Known { refused: Some(Flow::ProjectInactivate), ..active };
        assert_eq!(project_due(refused, true), None);
        let other = Known { standing: Standing::Inactive, ..refused };
        assert_eq!(project_due(other, false), Some(Flow::ProjectReactivate), "another flow was not refused");
        let asked = Known { waits: true, ..known(Standing::Asked) };
        assert_eq!(account_due(Some(asked), true, true), None);
        assert_eq!(account_due(Some(Known { waits: true, ..active }), true, true), None);
        let refused = Known { refused: Some(Flow::UserModify), ..active };
        assert_eq!(account_due(Some(refused), true, true), None);
        assert_eq!(account_due(Some(refused), false, true), Some(Flow::AccountInactivate));
    }
}
