use sim::{catalogue::Catalogue, report, scenario::Scenario, simulate::*};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut s = Scenario::default();
    let mut which = "all".to_string();
    let mut seed = false; let mut html = None; let mut json = false;
    for a in &args[1..] {
        let (k, v) = a.split_once('=').unwrap();
        match k {
            "nodes" => s.nodes = v.parse().unwrap(),
            "seed" => s.seed = v.parse().unwrap(),
            "hours" => s.hours = v.parse().unwrap(),
            "load" => s.load = v.parse().unwrap(),
            "model" => s.model = v.into(),
            "churn" => s.churn = v == "1",
            "sybil" => s.sybils = v.parse().unwrap(),
            "bh" => s.black_holes = v.parse().unwrap(),
            "liars" => s.liars = v.parse().unwrap(),
            "crowd" => s.crowd = Some(v.parse().unwrap()),
            "office" => s.office = v.parse().unwrap(),
            "partition" => s.partition = v.parse().unwrap(),
            "p" => which = v.into(),
            "table" => seed = true,
            "html" => html = Some(v.to_string()),
            "json" => json = true,
            _ => panic!("{k}"),
        }
    }
    let c = Catalogue::built_in();
    let t = std::time::Instant::now();
    let found = if seed { seed_table(&c, &s) } else if which == "all" { simulate(&c, &s, &Contestant::ALL) } else { simulate(&c, &s, &[which.parse().unwrap()]) }.unwrap();
    let e = t.elapsed().as_secs_f64();
    if let Some(p) = html { std::fs::write(p, report::html(&found.report)).unwrap(); }
    if json { println!("{}", serde_json::to_string_pretty(&found.report).unwrap()); } else { print!("{}", report::table(&found.report)); }
    eprintln!("{:.0}x {} events", found.simulated_s / e, found.events);
}
