//! `comity clearing oversight`: flags by category over all projects and owners.

use std::fmt::Write as _;
use std::path::PathBuf;

use comity_wire::api::advisory::CategorySum;

use crate::failure::Failure;
use crate::service::admin;

#[derive(Debug, clap::Args)]
pub struct OversightArguments {
    #[arg(long)]
    home: PathBuf,
    /// Over so many days up to now, at most 35
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=35))]
    days: u32,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// # Errors
/// [`Failure`] where the house is not running.
pub(super) async fn run(arguments: &OversightArguments) -> Result<String, Failure> {
    let path = format!("/admin/oversight?days={}", arguments.days);
    let sums: Vec<CategorySum> = admin::get(&arguments.home, &path).await?;
    if arguments.json {
        return Ok(serde_json::to_string_pretty(&sums)?);
    }
    let mut text = String::new();
    for CategorySum { category, sum } in &sums {
        let said = sum.map_or_else(
            || "fewer than five projects: not shown".to_owned(),
            |sum| format!("{} flags of {} projects at {} owners", sum.flags, sum.projects, sum.owners),
        );
        let _ = writeln!(text, "{category:<22} {said}");
    }
    Ok(text.trim_end().to_owned())
}
