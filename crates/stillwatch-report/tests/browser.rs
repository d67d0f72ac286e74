//! Opens reports in headless Chromium at three sizes, in light and dark, and checks
//! that every chart has drawn, that nothing is cut off, that the console is silent and
//! that nothing was fetched. Says that it skips where no Chromium is on the PATH.

mod pictures;

use std::path::{Path, PathBuf};
use std::process::Command;

use stillwatch_exchange::picture::Picture;

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
const LIGHT: &str = "1";
const DARK: &str = "0";
const SIZES: [(u32, &str); 4] = [(400, LIGHT), (1000, LIGHT), (1600, LIGHT), (1000, DARK)];

fn browser() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|folder| NAMES.map(|name| folder.join(name)))
        .find(|program| program.is_file())
}

fn chromium(browser: &Path, folder: &Path, width_px: u32, flags: &[&str]) -> (String, String) {
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            "--virtual-time-budget=60000",
        ])
        .arg(format!("--user-data-dir={}", folder.join("profile").display()))
        // A window is never narrower than 500 pixels; a frame in it can be.
        .arg(format!("--window-size={},900", width_px.max(500)))
        .args(flags)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// The report in a frame of the given width, and around it a page that writes down what
/// it sees in there.
const FRAME: &str = r#"<!DOCTYPE html><meta charset="utf-8">
<body style="margin:0"><iframe src="report.html" width="WIDTH" height="900" style="border:0"></iframe>
<pre id="seen">nothing</pre>
<script>
const frame = document.querySelector("iframe");
const look = setInterval(() => {
  const page = frame.contentDocument;
  const root = page?.documentElement;
  if (!root || !["drawn", "failed"].includes(root.dataset.charts)) return;
  clearInterval(look);
  const charts = [...page.querySelectorAll(".chart")];
  document.getElementById("seen").textContent = JSON.stringify({
    charts: charts.length,
    state: root.dataset.charts,
    drawn: Number(root.dataset.chartsDrawn),
    withDrawing: charts.filter((c) => c.querySelector("svg.main-svg")).length,
    cutOff: charts.filter((c) => c.querySelector("svg.main-svg").getBoundingClientRect().width > c.clientWidth + 1).map((c) => c.id),
    violations: Number(root.dataset.violations),
    fetched: frame.contentWindow.performance.getEntriesByType("resource").length,
    width: root.clientWidth,
    overflow: root.scrollWidth - root.clientWidth,
    dark: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
  });
}, 50);
</script>"#;

/// Opens the report at each width, in light (`1`) or dark (`0`) as Chromium counts them.
fn opens_well(name: &str, picture: &Picture, windows: &[(u32, &str)]) {
    let Some(browser) = browser() else {
        eprintln!("skipped: none of {NAMES:?} is on the PATH");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let html = stillwatch_report::render(picture).unwrap();
    let charts = html.matches("<div class=\"chart\"").count();
    std::fs::write(folder.path().join("report.html"), html).unwrap();
    for &(width_px, scheme) in windows {
        let background = if scheme == DARK { "rgb(19, 22, 25)" } else { "rgb(250, 249, 246)" };
        let frame = folder.path().join("frame.html");
        std::fs::write(&frame, FRAME.replace("WIDTH", &width_px.to_string())).unwrap();
        let (dom, log) = chromium(
            &browser,
            folder.path(),
            width_px,
            &[
                // Lets the frame's page look into the frame.
                "--allow-file-access-from-files",
                &format!("--blink-settings=preferredColorScheme={scheme}"),
                "--dump-dom",
                &format!("file://{}", frame.display()),
            ],
        );
        let seen = dom
            .split_once("<pre id=\"seen\">")
            .and_then(|(_, rest)| rest.split_once("</pre>"))
            .map(|(seen, _)| seen.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&"))
            .unwrap_or_default();
        let seen: serde_json::Value = serde_json::from_str(&seen).unwrap_or_else(|_| {
            panic!("{name} at {width_px}: the charts never drew: {seen}\n{log}")
        });
        let expected = serde_json::json!({
            "charts": charts,
            "state": "drawn",
            "drawn": charts,
            "withDrawing": charts,
            "cutOff": [],
            "violations": 0,
            "fetched": 0,
            "width": width_px,
            "overflow": 0,
            "dark": background,
        });
        assert_eq!(seen, expected, "{name} at {width_px}, colour scheme {scheme}");
        let console: Vec<&str> = log.lines().filter(|line| line.contains("CONSOLE")).collect();
        assert!(console.is_empty(), "{name} at {width_px}: {console:?}");
    }
}

#[test]
fn a_report_with_campaigns_opens_well() {
    opens_well("rich", &pictures::rich(), &SIZES);
}

#[test]
fn a_report_without_campaigns_opens_well() {
    opens_well("nothing found", &pictures::nothing_found(), &SIZES[..3]);
}

#[test]
fn a_report_of_next_to_nothing_opens_well() {
    opens_well("bare", &pictures::bare(), &SIZES[..1]);
    opens_well("empty", &pictures::empty(), &SIZES[..1]);
}

#[test]
fn hostile_text_runs_nothing() {
    let script = "x</script><script>document.title=1</script><img src=\"https://192.0.2.1/x\" onerror=alert(1)><a href=\"https://192.0.2.1/\">y</a>";
    opens_well("hostile", &pictures::hostile(script), &SIZES[1..2]);
}

#[test]
fn a_report_prints_in_full() {
    let Some(browser) = browser() else {
        eprintln!("skipped: none of {NAMES:?} is on the PATH");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let pdf = folder.path().join("report.pdf");
    std::fs::write(&page, stillwatch_report::render(&pictures::rich()).unwrap()).unwrap();
    let (_, log) = chromium(
        &browser,
        folder.path(),
        1000,
        &[
            &format!("--blink-settings=preferredColorScheme={DARK}"),
            &format!("--print-to-pdf={}", pdf.display()),
            &format!("file://{}", page.display()),
        ],
    );
    assert!(!log.contains("CONSOLE"), "{log}");
    let printed = std::fs::read(&pdf).unwrap();
    let pages = printed.windows(11).filter(|w| w == b"/Type /Page").count();
    // At least the top, and a page for each of the five campaigns.
    assert!(pages > 6, "{pages} pages");
}
