//! `[costs]`: on what terms a report counts what answering and distilling cost. No part of the plan: another price on the same
//! run asks nothing.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// Dollars for an hour of the machine that trains students, and on which local models without a price of their own
    /// answer: `"0.40"`. Without it the report counts the machine's time.
    pub machine_hour: Option<String>,
    /// Share of the hours paid for in which the machine works, for what is paid by the hour; 1 when absent.
    pub utilisation: Option<f64>,
    /// Questions that you expect to ask: what is paid once is spread over them; 10,000 when absent.
    pub questions: Option<u64>,
}
