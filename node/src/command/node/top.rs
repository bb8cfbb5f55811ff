//! `comity node top`: a running node at a glance, through its admin socket.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::failure::Failure;
use crate::service::admin;
use crate::watch::Top as View;

#[derive(Debug, clap::Args)]
pub struct Top {
    /// The node's home folder
    #[arg(long)]
    home: PathBuf,
    /// Show it once and end
    #[arg(long)]
    once: bool,
    /// Once, as JSON
    #[arg(long)]
    json: bool,
}

const EVERY: Duration = Duration::from_secs(1);
/// Clears the screen and goes to its first place.
const CLEAR: &str = "\x1b[2J\x1b[H";

impl Top {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let view: View = admin::get(&self.home, "/admin/top").await?;
        if self.json {
            comity_cli::say(&serde_json::to_string_pretty(&view)?);
            return Ok(());
        }
        // Into a file or a pipe there is no screen to clear.
        if self.once || !std::io::stdout().is_terminal() {
            comity_cli::say(show(&view).trim_end());
            return Ok(());
        }
        let mut view = view;
        loop {
            comity_cli::say(&format!("{CLEAR}{}\nCtrl-C ends this view; the node runs on.", show(&view)));
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return Ok(()),
                () = tokio::time::sleep(EVERY) => {}
            }
            view = admin::get(&self.home, "/admin/top").await?;
        }
    }
}

fn show(view: &View) -> String {
    let mut text = String::new();
    let mut line = |said: String| text.push_str(&(said + "\n"));
    line(format!(
        "up {}   under way {}   holds {} ({} cr set aside)",
        span(view.up_s),
        view.in_flight,
        view.holds,
        credits(view.held_ucr)
    ));
    for stopped in &view.stopped {
        line(format!("stopped  {stopped}"));
    }
    line(String::new());
    line(format!(
        "{:<36} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9} {:>12}",
        format!("last {} s", view.over_s),
        "calls/s",
        "refused",
        "charged",
        "in tok/s",
        "out tok/s",
        "p50 ms",
        "credits"
    ));
    let rate = |count: u64| format!("{:.1}", count as f64 / view.over_s as f64);
    for row in &view.models {
        let name = if row.model.is_empty() { "(no model of ours)" } else { &row.model };
        line(format!(
            "{:<36} {:>8} {:>8} {:>8} {:>9} {:>9} {:>9.1} {:>12}",
            shortened(name, 36),
            rate(row.calls),
            row.refused,
            row.charged,
            rate(row.input_tokens),
            rate(row.output_tokens),
            row.p50_ms,
            credits(row.charge_ucr)
        ));
    }
    if view.models.is_empty() {
        line("nobody has called".into());
    }
    if !view.serving.is_empty() {
        line(String::new());
        line(format!("{:<36} {:>8} {:>8} {:>8}", "served now", "waiting", "running", "places"));
    }
    for serving in &view.serving {
        line(format!(
            "{:<36} {:>8} {:>8} {:>8}",
            shortened(&serving.model, 36),
            serving.waiting,
            serving.running,
            serving.slots
        ));
        for server in &serving.upstreams {
            let accepts = server.accepts_ms.map_or_else(String::new, |ms| format!("accepts in {ms} ms"));
            let failed =
                if server.failures == 0 { String::new() } else { format!("{} failed in a row", server.failures) };
            let words = [server.standing.clone(), format!("{} under way", server.in_flight), accepts, failed];
            let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
            line(format!("  {:<34} {}", shortened(&server.url, 34), words.join(", ")));
        }
    }
    if !view.last.is_empty() {
        line(String::new());
        line("last calls".into());
    }
    for last in &view.last {
        let charge = last.charge_ucr.map_or_else(|| "no charge".to_owned(), |ucr| format!("{} cr", credits(ucr)));
        line(format!(
            "{:>6} ago  {} {:<20} {:>9.1} ms  {:>14}  {}",
            span(last.ago_s),
            last.status,
            shortened(&last.how, 20),
            last.took_ms,
            charge,
            shortened(if last.model.is_empty() { &last.route } else { &last.model }, 36)
        ));
    }
    text
}

fn span(seconds: u64) -> String {
    let mut text = String::new();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let _ = match (days, hours, minutes) {
        (0, 0, 0) => write!(text, "{seconds} s"),
        (0, 0, _) => write!(text, "{minutes} min"),
        (0, _, _) => write!(text, "{hours} h {minutes} min"),
        _ => write!(text, "{days} d {hours} h"),
    };
    text
}

fn credits(ucr: i64) -> String {
    format!("{}.{:06}", ucr / 1_000_000, ucr % 1_000_000)
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::{Instance, Last, Row, Serving};

    #[test]
    fn a_view_is_legible_without_colour() {
        let row = Row {
            model: "lab/a-model-with-a-name-that-is-longer-than-its-column".into(),
            calls: 120,
            refused: 3,
            charged: 117,
            charge_ucr: 2_000_018,
            input_tokens: 600,
            output_tokens: 60,
            p50_ms: 12.5,
            p95_ms: 40.0,
        };
        let last = Last {
            ago_s: 75,
            route: "/v1/chat/completions".into(),
            model: String::new(),
            status: 404,
            how: "model_not_found".into(),
            took_ms: 0.4,
            charge_ucr: None,
        };
        let server = |url: &str, standing: &str, accepts_ms, failures| Instance {
            url: url.into(),
            standing: standing.into(),
            in_flight: 1,
            accepts_ms,
            failures,
        };
        let serving = Serving {
            model: "lab/m".into(),
            waiting: 4,
            running: 2,
            slots: 2,
            upstreams: vec![
                server("http://a:8000/v1", "ready", Some(31), 0),
                server("http://b:8000/v1", "down", None, 3),
            ],
        };
        let view = View {
            up_s: 93_784,
            in_flight: 2,
            holds: 2,
            held_ucr: 180,
            over_s: 60,
            models: vec![row],
            stopped: vec!["model lab/tiny: an audit".into()],
            serving: vec![serving],
            last: vec![last],
        };
        let expected = "\
up 1 d 2 h   under way 2   holds 2 (0.000180 cr set aside)
stopped  model lab/tiny: an audit

last 60 s                             calls/s  refused  charged  in tok/s out tok/s    p50 ms      credits
lab/a-model-with-a-name-that-is-lon…      2.0        3      117      10.0       1.0      12.5     2.000018

served now                            waiting  running   places
lab/m                                       4        2        2
  http://a:8000/v1                   ready, 1 under way, accepts in 31 ms
  http://b:8000/v1                   down, 1 under way, 3 failed in a row

last calls
 1 min ago  404 model_not_found            0.4 ms       no charge  /v1/chat/completions
";
        assert_eq!(show(&view), expected);
    }
}
