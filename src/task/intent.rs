//! What a run is for: to synchronise, to show and save a plan, or to carry a saved one out
//! (spec 9, `osync plan`, `osync apply`).

use super::Task;
use super::closing::Halt;
use super::scrub::{ScrubRequest, Settlement};
use super::undo::{UndoRequest, UnlessWhole};
use crate::reconcile::Plan;
use crate::reconcile::saved_plan::{Origin, SavedPlan};
use crate::report::left_alone::LeftAlone;
use crate::state::{Baseline, Identity};
use crate::tree::{Pair, Tree};

/// What a run is for.
#[derive(Debug, Clone, Copy)]
pub enum Intent<'a> {
    /// To bring both sides in step.
    Synchronise,
    /// To show what would be done; with `--dry` set in the configuration.
    Plan(KeptPlan<'a>),
    /// To do what was planned, where nothing has changed since.
    Apply {
        /// What is to be done.
        plan: &'a SavedPlan,
        /// What it was made for.
        origin: &'a Origin,
    },
    /// To put both sides back to where they were before a run.
    Undo(UndoRequest),
    /// To read contents, and to find and heal what is damaged.
    Scrub(ScrubRequest),
    /// To give one side the other one's copy of a damaged file.
    Settle(Settlement<'a>),
}

/// Whether a plan that is shown is kept.
#[derive(Debug, Clone, Copy)]
pub enum KeptPlan<'a> {
    /// It is not.
    No,
    /// It is, with these words of the command line, which name the task.
    For(&'a [String]),
}

/// What a run of a star is for.
#[derive(Debug, Clone, Copy)]
pub enum StarIntent<'a> {
    /// To bring all replicas in step.
    Synchronise,
    /// To show what would be done; with `--dry` set in the configuration.
    Plan(KeptPlan<'a>),
    /// To do what was planned for each target, where nothing has changed since.
    Apply(&'a [(SavedPlan, Origin)]),
    /// To put all replicas back to where they were before the last run that changed anything.
    Undo(UnlessWhole),
}

/// What a plan comes to, for the exit status of `osync plan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Nothing is to be done.
    Nothing,
    /// Something is.
    Some,
    /// Something is, and a conflict is among it.
    WithConflict,
}

impl<'a> Intent<'a> {
    /// The plan that is to be carried out, if it is one that was saved.
    pub(super) fn saved(self) -> Option<&'a SavedPlan> {
        match self {
            Intent::Apply { plan, .. } => Some(plan),
            Intent::Synchronise
            | Intent::Plan(_)
            | Intent::Undo(_)
            | Intent::Scrub(_)
            | Intent::Settle(_) => None,
        }
    }

    /// Whether it looks after what is recorded, and leaves what is new to the next run.
    pub(super) fn is_maintenance(self) -> bool {
        matches!(self, Intent::Scrub(_) | Intent::Settle(_))
    }

    /// What tries again what could not be done, in words that follow a verb.
    pub(super) fn tried_again(self) -> &'static str {
        match self {
            Intent::Scrub(_) => "by the next 'osync scrub --heal'",
            Intent::Settle(_) => "when it is settled again",
            Intent::Synchronise | Intent::Plan(_) | Intent::Apply { .. } | Intent::Undo(_) => {
                "by the next run"
            }
        }
    }
}

impl Task<'_> {
    /// Whether the saved plan, if there is one, is for this task as it stands.
    pub(super) fn check_saved_plan(
        &self,
        baseline: &Baseline,
        identities: &Pair<Option<Identity>>,
    ) -> Result<(), Halt> {
        let Intent::Apply { origin, .. } = self.intent else { return Ok(()) };
        let now = self.origin(baseline, identities, &[]);
        let refused = if origin.instance != now.instance {
            format!("it was made for task {}", origin.instance)
        } else if origin.identities != now.identities {
            "it was made for other replicas".to_owned()
        } else if origin.baseline != now.baseline {
            "a run has recorded something since it was made; make a new plan".to_owned()
        } else {
            return Ok(());
        };
        Err(Halt::fatal(format!("this plan cannot be carried out: {refused}")))
    }

    fn origin(
        &self,
        baseline: &Baseline,
        identities: &Pair<Option<Identity>>,
        task: &[String],
    ) -> Origin {
        let identity = |identity: &Option<Identity>| identity.as_ref().map(|id| id.0.clone());
        Origin {
            instance: self.config.instance_id.clone(),
            identities: [identity(&identities.initiator), identity(&identities.target)],
            baseline: blake3::hash(baseline.body()).to_hex().to_string(),
            made: chrono::Local::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, false),
            date: self.date(),
            task: task.to_vec(),
        }
    }

    /// Names what the saved plan has and what is no longer done, because it changed.
    pub(super) fn tell_left(&self, plan: &Plan) {
        let Some(saved) = self.intent.saved() else { return };
        for path in saved.no_longer_done(plan) {
            self.tell_left_path(None, &path, &LeftAlone::ChangedSincePlan);
        }
    }

    /// Says what the plan of a dry run comes to, and puts it into words if it is to be kept.
    pub(super) fn put_down_plan(
        &mut self,
        plan: &Plan,
        trees: &Pair<Tree>,
        baseline: &Baseline,
        identities: &Pair<Option<Identity>>,
    ) {
        let Intent::Plan(kept) = self.intent else { return };
        self.outcome.work = Some(if plan.is_empty() {
            Work::Nothing
        } else if plan.conflicts.is_empty() {
            Work::Some
        } else {
            Work::WithConflict
        });
        let KeptPlan::For(task) = kept else { return };
        let origin = self.origin(baseline, identities, task);
        self.outcome.plans.push(SavedPlan::of(plan, trees).encode(&origin));
    }
}
