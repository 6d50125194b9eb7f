//! `#!` lines against what the host's kernel does with them.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test on the host"
)]

mod common;

use ftl_loader::script;
use std::ffi::CString;
use std::io::Read;
use std::os::fd::FromRawFd;

/// What execve of a file with these bytes does: the new program's argv, or the errno.
fn linux(path: &str, head: &[u8]) -> Result<Vec<Vec<u8>>, i32> {
    std::fs::write(path, head).unwrap();
    let c_path = CString::new(path).unwrap();
    let arg0 = c"zero";
    let arg1 = c"one";
    // SAFETY: pipe, fork, dup2, execve and _exit only; all pointers outlive the child's exec.
    let (file, pid) = unsafe {
        assert_eq!(libc::chmod(c_path.as_ptr(), 0o755), 0);
        let mut fds = [0; 2];
        assert_eq!(libc::pipe(fds.as_mut_ptr()), 0);
        let pid = libc::fork();
        if pid == 0 {
            libc::dup2(fds[1], 1);
            libc::close(fds[0]);
            let argv = [arg0.as_ptr(), arg1.as_ptr(), std::ptr::null()];
            let envp = [std::ptr::null()];
            loop {
                libc::execve(c_path.as_ptr(), argv.as_ptr(), envp.as_ptr());
                let errno = *libc::__errno_location();
                if errno != libc::ETXTBSY {
                    libc::_exit(errno);
                }
            }
        }
        assert!(pid > 0);
        libc::close(fds[1]);
        (std::fs::File::from_raw_fd(fds[0]), pid)
    };
    let mut out = Vec::new();
    let mut file = file;
    file.read_to_end(&mut out).unwrap();
    let mut status = 0;
    // SAFETY: our own child, `status` outlives the call.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    assert!(libc::WIFEXITED(status));
    match libc::WEXITSTATUS(status) {
        0 => Ok(out
            .strip_suffix(b"\0")
            .unwrap()
            .split(|&b| b == 0)
            .map(<[u8]>::to_vec)
            .collect()),
        errno => Err(errno),
    }
}

/// What our parser says execve would do.
fn ours(path: &str, head: &[u8], interp_path: &str) -> Result<Vec<Vec<u8>>, i32> {
    let script = script::parse(head).unwrap().map_err(|_| libc::ENOEXEC)?;
    let name = String::from_utf8_lossy(&script.interp).into_owned();
    if name.trim_start_matches('/') != interp_path.trim_start_matches('/') {
        return Err(if name.is_empty() { 0 } else { libc::ENOENT });
    }
    let mut argv = vec![script.interp];
    argv.extend(script.arg);
    argv.push(path.into());
    argv.push(b"one".to_vec());
    Ok(argv)
}

#[test]
fn lines_as_linux_reads_them() {
    let source = "#include <unistd.h>\n#include <string.h>\n
        int main(int c, char **v) { for (int i = 0; i < c; i++) write(1, v[i], strlen(v[i]) + 1); return 0; }";
    let interp = common::compile("argv", "gcc", &["-static"], source);
    let path = format!("{}/script", env!("CARGO_TARGET_TMPDIR"));
    let templates: &[&str] = &[
        "#!I\n",
        "#!I",
        "#! \tI\t \n",
        "#!I \n",
        "#!I ",
        "#!I\t",
        "#!I a\n",
        "#!I a",
        "#!I a b  c \t\n",
        "#!I  a b ",
        "#!I\0x\n",
        "#!I \0x\n",
        "#!I a\0b\n",
        "#!I\0",
        "#!I \0",
        "#!I  \0 x\n",
        "#!\n",
        "#! \n",
        "#!",
        "#! ",
        "#!\0I\n",
        "#!I\r\n",
        "#!I a\r\n",
        "#!\nI\n",
        "#!I\n\0",
        "#!I a\n\0",
        "#!\tI\ta\tb\n",
        "#!I a \0 \n",
        "#!I a \0",
        "#!I a\0 b \n",
    ];
    let mut cases: Vec<Vec<u8>> = templates
        .iter()
        .map(|t| t.replace('I', &interp).into_bytes())
        .collect();
    // The path, the argument or the blanks end just at the limit of what is read.
    for total in script::HEAD_LEN - 4..script::HEAD_LEN + 4 {
        for tail in [
            "\n",
            "",
            " ",
            " \n",
            " a\n",
            " a",
            " a b\n",
            " aaaaaa\n",
            "\0",
            "\t\0",
        ] {
            let slashes = total - 2 - interp.len();
            cases.push(format!("#!{}{interp}{tail}", "/".repeat(slashes)).into_bytes());
            let args = total - 3 - interp.len();
            cases.push(format!("#!{interp} {}{tail}", "a".repeat(args)).into_bytes());
            cases.push(format!("#!{interp}{}{tail}", " ".repeat(args + 1)).into_bytes());
        }
        cases.push(format!("#!{}", " ".repeat(total - 2)).into_bytes());
        cases.push(format!("#!{}\n", " ".repeat(total - 2)).into_bytes());
    }
    let mut ran = 0;
    for head in &cases {
        let shown = String::from_utf8_lossy(head).replace(&interp, "I");
        let want = linux(&path, head);
        let got = ours(&path, head, &interp);
        if got == Err(0) {
            assert!(
                want.is_err(),
                "{shown:?}: an empty path cannot run, Linux: {want:?}"
            );
        } else {
            assert_eq!(got, want, "{shown:?}");
        }
        ran += usize::from(want.is_ok());
    }
    assert!(ran > 100, "{ran} of {} ran", cases.len());
}
