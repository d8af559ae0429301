//! Joins the stages: what the plan asks for becomes sources, their events become journeys, and those go to an
//! audience: a renderer, and whoever else is to know.

mod anonymize;
mod appearing;
mod audience;
mod check;
mod clock;
mod dry_run;
mod fresh;
mod interactive;
mod kernel;
mod least;
mod legacy;
mod memory;
mod namespace;
mod output;
mod readable;
mod record;
pub(crate) mod replay;
mod report;
mod stop;
mod tables;
mod trace;
mod voice;

use anyhow::Result;

pub(crate) use audience::Audience;
pub(crate) use clock::now_ns;

use crate::cli::{ExitStatus, Plan};

/// Does what was planned.
///
/// # Errors
/// When the work could not be done; the message is one line for the user.
pub fn run(plan: Plan) -> Result<ExitStatus> {
    match plan {
        Plan::Trace(plan) => trace::run(&plan),
        Plan::Check(plan) => check::run(&plan),
        Plan::Replay(plan) => replay::run(&plan),
        Plan::Tui(plan) => interactive::run(*plan),
        Plan::Anonymize(plan) => anonymize::run(&plan),
    }
}
