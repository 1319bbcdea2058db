//! Renders a corpus of charts and compares with what Helm printed.
//!
//! usage: corpus FOLDER [SUBSTRING]  (or the folder in `SETPOINT_CORPUS`)

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;
use setpoint_templates::{Capabilities, Chart, Folder, RenderOptions, render, yaml};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(folder) = arguments.next().or_else(|| std::env::var("SETPOINT_CORPUS").ok()) else {
        println!("corpus: give the folder of the corpus as argument or in SETPOINT_CORPUS");
        return ExitCode::from(2);
    };
    let only = arguments.next().unwrap_or_default();
    let verbose = arguments.next().is_some();
    let default_versions: Vec<String> = std::fs::read_to_string(Path::new(&folder).join("default-capabilities.txt"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.strip_prefix("- ").map(str::to_owned))
        .collect();
    let mut charts: Vec<PathBuf> = children(&Path::new(&folder).join("cases"));
    charts.sort();
    let (mut right, mut total) = (0, 0);
    let mut causes: BTreeMap<String, usize> = BTreeMap::new();
    for chart in charts {
        let mut cases = children(&chart.join("cases"));
        cases.sort();
        for case in cases {
            if !case.display().to_string().contains(&only) {
                continue;
            }
            total += 1;
            let started = std::time::Instant::now();
            let outcome = run(&chart, &case, &default_versions);
            if started.elapsed().as_secs() >= 10 {
                println!("slow: {} {:?}", case.display(), started.elapsed());
            }
            match outcome {
                Ok(()) => right += 1,
                Err((cause, detail)) => {
                    *causes.entry(cause.clone()).or_default() += 1;
                    let name = case.strip_prefix(&folder).unwrap_or(&case).display().to_string();
                    let shown = if verbose {
                        detail
                    } else {
                        detail.chars().take(500).collect()
                    };
                    println!("{cause}: {name}\n{shown}\n");
                }
            }
        }
    }
    for (cause, count) in causes {
        println!("{count:5} {cause}");
    }
    println!("{right} of {total} cases right");
    if right == total {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

type Outcome = Result<(), (String, String)>;

fn run(chart: &Path, case: &Path, default_versions: &[String]) -> Outcome {
    let read = |name: &str| std::fs::read_to_string(case.join(name)).unwrap_or_default();
    let meta: Value = serde_json::from_str(&read("meta.json")).unwrap_or_default();
    let text = |key: &str| meta[key].as_str().unwrap_or_default().to_owned();
    let result = print(chart, &meta, &read("values.yaml"), default_versions);
    let deterministic = meta["deterministic"] == true;
    if meta["ok"] != true {
        let wanted = read("expected-error.txt");
        return match result {
            Ok(_) => Err(("rendered what must fail".to_owned(), format!("want {wanted}"))),
            Err(words) if words.trim() == wanted.trim() || !deterministic => Ok(()),
            Err(words) => Err(("fails otherwise".to_owned(), format!("want {wanted}\n got {words}"))),
        };
    }
    let got = result.map_err(|words| (format!("failed in {}", text("kind")), words))?;
    let wanted = read("expected.yaml");
    if got == wanted {
        return Ok(());
    }
    let (wanted_lines, got_lines): (Vec<&str>, Vec<&str>) = (wanted.split('\n').collect(), got.split('\n').collect());
    let differs = |index: &usize| wanted_lines.get(*index) != got_lines.get(*index);
    let mut differing = (0..wanted_lines.len().max(got_lines.len())).filter(differs);
    if !deterministic {
        let Some(random) = meta["random_lines"].as_array() else {
            let near = wanted_lines.len().abs_diff(got_lines.len()) < 200;
            return if near {
                Ok(())
            } else {
                Err(("differs".to_owned(), "random length".to_owned()))
            };
        };
        if wanted_lines.len() == got_lines.len() {
            let random: Vec<usize> = random
                .iter()
                .filter_map(Value::as_u64)
                .map(|line| line as usize)
                .collect();
            match differing.find(|index| !random.contains(index)) {
                None => return Ok(()),
                Some(index) => return Err(difference(&wanted_lines, &got_lines, index)),
            }
        }
    }
    let index = differing.next().unwrap_or(0);
    Err(difference(&wanted_lines, &got_lines, index))
}

fn difference(wanted: &[&str], got: &[&str], index: usize) -> (String, String) {
    let near =
        |lines: &[&str]| lines[index.saturating_sub(2).min(lines.len())..(index + 2).min(lines.len())].join("\n    ");
    (
        "differs".to_owned(),
        format!(
            "line {}: want\n    {}\n  got\n    {}",
            index + 1,
            near(wanted),
            near(got)
        ),
    )
}

fn print(chart: &Path, meta: &Value, values: &str, default_versions: &[String]) -> Result<String, String> {
    let chart = Chart::load(&Folder(chart.join("chart"))).map_err(|error| error.to_string())?;
    let text = |key: &str| meta[key].as_str().unwrap_or_default().to_owned();
    let mut api_versions: Vec<String> = default_versions.to_vec();
    api_versions.extend(
        meta["api_versions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|v| v.as_str().map(str::to_owned)),
    );
    let options = RenderOptions {
        name: text("release_name"),
        namespace: text("namespace"),
        revision: 1,
        is_install: true,
        values: yaml::read_map(values)?,
        capabilities: Capabilities {
            kube_version: text("kube_version"),
            api_versions,
        },
        seed: [7; 32],
        now: 1_700_000_000,
        lookup: None,
    };
    let rendered = render(&chart, &options).map_err(|error| error.to_string())?;
    let manifests: String = rendered
        .manifests
        .iter()
        .map(|m| format!("---\n# Source: {}\n{}\n", m.source, m.yaml))
        .collect();
    let mut out = format!("{}\n", manifests.trim());
    for hook in &rendered.hooks {
        out.push_str(&format!(
            "---\n# Source: {}\n{}\n",
            hook.manifest.source, hook.manifest.yaml
        ));
    }
    Ok(out)
}
