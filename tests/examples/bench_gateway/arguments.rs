//! What the bench is asked for.

use std::path::PathBuf;
use std::time::Duration;

use crate::peers::{Kind, Peer};

pub(crate) const HINT: &str = "hint: bench_gateway [--json] [beside|doors|curve|streams|peers]… [--peer NAME=FOLDER|--no-peer NAME=WHY]… , \
                               bench_gateway soak --minutes N [--json]";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Requests per second, latency and idle memory, beside nginx.
    Beside,
    Doors,
    Curve,
    Streams,
    /// Other gateways.
    Peers,
}

#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Bench(Vec<Part>),
    Soak(Duration),
}

#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    pub(crate) json: bool,
    pub(crate) wish: Wish,
    pub(crate) peers: Vec<Peer>,
}

impl Arguments {
    /// # Errors
    /// The word that is not understood.
    pub(crate) fn read(words: &[String]) -> Result<Self, String> {
        let (mut json, mut soak, mut minutes, mut parts, mut peers) = (false, false, None, Vec::new(), Vec::new());
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("error: {word} wants a value"));
            match word {
                "--json" => json = true,
                "soak" => soak = true,
                "--minutes" => minutes = Some(value()?.parse::<f64>().map_err(|_| "error: --minutes wants a number")?),
                "--peer" => peers.push(peer(value()?, |folder| Ok(PathBuf::from(folder)))?),
                "--no-peer" => peers.push(peer(value()?, |why| Err(why.to_owned()))?),
                other => parts.push(part(other)?),
            }
        }
        let raced = !peers.is_empty();
        let wish = match (soak, minutes) {
            (true, Some(minutes)) if parts.is_empty() && !raced && minutes > 0.0 => {
                Wish::Soak(Duration::from_secs_f64(minutes * 60.0))
            }
            (false, None) => {
                let all = || [Part::Beside, Part::Doors, Part::Curve, Part::Streams].into_iter();
                let own: Vec<Part> =
                    if parts.is_empty() { all().chain(raced.then_some(Part::Peers)).collect() } else { parts };
                Wish::Bench(own)
            }
            _ => return Err("error: soak goes with --minutes, and with nothing else".to_owned()),
        };
        Ok(Self { json, wish, peers })
    }
}

fn part(word: &str) -> Result<Part, String> {
    Ok(match word {
        "beside" => Part::Beside,
        "doors" => Part::Doors,
        "curve" => Part::Curve,
        "streams" => Part::Streams,
        "peers" => Part::Peers,
        other => return Err(format!("error: not understood: {other}")),
    })
}

fn peer(said: &str, found: impl Fn(&str) -> Result<PathBuf, String>) -> Result<Peer, String> {
    let (name, rest) = said.split_once('=').ok_or_else(|| format!("error: {said} is not NAME=…"))?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    let kind = kind.ok_or_else(|| format!("error: no other gateway is called {name}"))?;
    Ok(Peer { kind, found: found(rest) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Arguments, String> {
        Arguments::read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn everything_but_other_gateways_is_measured_where_nothing_is_said() {
        let Wish::Bench(parts) = read("--json").unwrap().wish else { panic!("a bench") };
        assert_eq!(parts, [Part::Beside, Part::Doors, Part::Curve, Part::Streams]);
        let raced = read("--peer portkey=/p --no-peer literllm=none").unwrap();
        assert!(raced.peers[0].found.is_ok() && raced.peers[1].found == Err("none".to_owned()));
        assert!(matches!(raced.wish, Wish::Bench(parts) if parts.contains(&Part::Peers)));
        assert!(matches!(read("streams").unwrap().wish, Wish::Bench(parts) if parts == [Part::Streams]));
    }

    #[test]
    fn a_soak_has_its_minutes_and_nothing_else() {
        assert!(matches!(read("soak --minutes 0.5").unwrap().wish, Wish::Soak(time) if time.as_secs() == 30));
        for wrong in [
            "soak",
            "--minutes 5",
            "soak --minutes 0",
            "soak --minutes 5 streams",
            "--peer x=/p",
            "--peer portkey",
            "fast",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
