//! Compares an outcome with the native one.

use crate::bounded::Outcome;

/// Lines that a racy program promises to be equal on every run begin so.
const INVARIANT: &str = "invariant";

/// What a native run must hold to count as an expectation at all.
pub fn native_sane(native: &Outcome, exit: i32) -> Result<(), String> {
    finished(native)?;
    if native.code != exit {
        return Err(format!(
            "native exit code {}, stated {exit}\n{}",
            native.code,
            native.tail()
        ));
    }
    if native.stdout.is_empty() {
        return Err("prints nothing: it could not fail".into());
    }
    match lines(&native.stdout, false)
        .iter()
        .find(|l| l.starts_with("FAIL"))
    {
        Some(line) => Err(format!("{line}\n{}", native.tail())),
        None => Ok(()),
    }
}

/// Standard output and exit status must be those of the native run.
pub fn same(native: &Outcome, ours: &Outcome, racy: bool) -> Result<(), String> {
    finished(ours)?;
    let (want, got) = (lines(&native.stdout, racy), lines(&ours.stdout, racy));
    if racy && want.is_empty() {
        return Err("a racy program must print an invariant line".into());
    }
    if let Some(at) = (0..want.len().max(got.len())).find(|&i| want.get(i) != got.get(i)) {
        let line = |l: &[String]| {
            l.get(at)
                .map_or("(end of output)".into(), |s| format!("{s:.300}"))
        };
        let (want, got) = (line(&want), line(&got));
        return Err(format!(
            "line {}:\n  native: {want}\n  ours:   {got}\n{}",
            at + 1,
            ours.tail()
        ));
    }
    if native.code != ours.code {
        return Err(format!(
            "exit code {}, natively {}\n{}",
            ours.code,
            native.code,
            ours.tail()
        ));
    }
    Ok(())
}

/// A replay must give what the recorded run gave, to the byte, and say so.
pub fn reproduced(recorded: &Outcome, ours: &Outcome) -> Result<(), String> {
    finished(ours)?;
    if ours.code != 0 {
        return Err(format!("replay: exit code {}\n{}", ours.code, ours.tail()));
    }
    for (name, want, got) in [
        ("output", &recorded.stdout, &ours.stdout),
        ("error output", &recorded.stderr, &ours.stderr),
    ] {
        if want != got {
            let at = want.iter().zip(got).take_while(|(a, b)| a == b).count();
            return Err(format!(
                "replay: {name} differs at byte {at} of {} and {}\n{}",
                want.len(),
                got.len(),
                ours.tail()
            ));
        }
    }
    Ok(())
}

fn finished(run: &Outcome) -> Result<(), String> {
    if run.timed_out {
        return Err(format!(
            "did not end in time; its process group was killed\n{}",
            run.tail()
        ));
    }
    if run.left_behind {
        return Err(format!("left processes behind\n{}", run.tail()));
    }
    Ok(())
}

fn lines(output: &[u8], racy: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    let all = text.split_inclusive('\n');
    all.filter(|l| !racy || l.starts_with(INVARIANT))
        .map(|l| l.escape_debug().to_string())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: i32, stdout: &str) -> Outcome {
        let stdout = stdout.as_bytes().to_vec();
        Outcome {
            code,
            stdout,
            stderr: Vec::new(),
            timed_out: false,
            left_behind: false,
        }
    }

    #[test]
    fn tells_output_and_status_apart() {
        let native = ended(0, "a\nb\n");
        assert!(same(&native, &ended(0, "a\nb\n"), false).is_ok());
        assert!(same(&native, &ended(1, "a\nb\n"), false).is_err());
        assert!(
            same(&native, &ended(0, "a\nc\n"), false)
                .unwrap_err()
                .contains("line 2")
        );
        assert!(same(&native, &ended(0, "a\nb"), false).is_err());
        assert!(same(&native, &ended(0, "a\nb\nc\n"), false).is_err());
    }

    #[test]
    fn racy_programs_are_held_to_their_invariant() {
        let native = ended(0, "3\ninvariant x\n");
        assert!(same(&native, &ended(0, "4\ninvariant x\n"), true).is_ok());
        assert!(same(&native, &ended(0, "3\ninvariant y\n"), true).is_err());
        assert!(same(&ended(0, "3\n"), &ended(0, "3\n"), true).is_err());
    }

    #[test]
    fn a_native_run_must_be_able_to_fail() {
        assert!(native_sane(&ended(0, ""), 0).is_err());
        assert!(native_sane(&ended(0, "x\nFAIL y\n"), 0).is_err());
        assert!(native_sane(&ended(134, "x\n"), 134).is_ok());
    }

    #[test]
    fn hung_and_left_behind_are_failures() {
        let native = ended(0, "a\n");
        assert!(
            same(
                &native,
                &Outcome {
                    timed_out: true,
                    ..ended(0, "a\n")
                },
                false
            )
            .is_err()
        );
        assert!(
            same(
                &native,
                &Outcome {
                    left_behind: true,
                    ..ended(0, "a\n")
                },
                false
            )
            .is_err()
        );
    }
}
