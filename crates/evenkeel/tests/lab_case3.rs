//! `evenkeel lab case3` as a user runs it: every point holds.

use std::process::Command;

use anyhow::Result;

#[test]
fn every_point_holds() -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .args(["lab", "case3"])
        .output()?;
    let text = String::from_utf8(output.stdout)?;
    println!("{text}");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let passed = text
        .lines()
        .filter(|line| line.starts_with("PASS "))
        .count();
    assert_eq!(
        text.lines().last(),
        Some(format!("{passed} passed, 0 failed").as_str())
    );
    for point in [1, 3, 4, 5, 6, 7, 8, 9] {
        assert!(text.contains(&format!("\nPASS {point} ")), "{point}");
    }
    Ok(())
}
