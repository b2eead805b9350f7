//! The examples with curl show what the server responds.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{assert_none, pages::code_blocks, read};

const PAGES: &[&str] = &["README.md", "docs/api.md"];

/// Where the server of the examples listens.
const PLACE: &str = "localhost:3000";

/// A server on a port of its own, which ends with the test.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fibsrv"))
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // A warning may precede the line: cargo sets variables of the build.
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        let line = lines.map(Result::unwrap).find(|line| line.contains(" listening on ")).unwrap();
        let address = line.rsplit(' ').next().unwrap().to_owned();
        Self { child, address }
    }

    /// The head and the content of a response.
    fn request(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "the head ends early: {head}");
        }
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let mut content = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut content).unwrap();
        (head, String::from_utf8_lossy(&content).into_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The words of a command, without the quotes around them.
fn words(command: &str) -> Vec<String> {
    let parts = command.split(['\'', '"']).enumerate();
    let words = parts.flat_map(|(place, part)| match place % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}

/// What curl prints for this command, or nothing if it has an option that is not known here.
fn output(server: &Server, command: &str) -> Option<String> {
    let mut words = words(command).into_iter().skip(1);
    let (mut is_with_head, mut path, mut fields) = (false, None, Vec::new());
    while let Some(word) = words.next() {
        match &*word {
            "-s" => {}
            "-i" => is_with_head = true,
            "-r" => fields.push(format!("Range: bytes={}\r\n", words.next()?)),
            "-H" => fields.push(words.next()? + "\r\n"),
            url => path = Some(url.strip_prefix(PLACE)?.to_owned()),
        }
    }
    let fields = fields.concat();
    let request = format!("GET {} HTTP/1.1\r\nHost: {PLACE}\r\n{fields}\r\n", path?);
    let (head, content) = server.request(&request);
    Some(if is_with_head { head + &content } else { content })
}

/// Lines without the time.
fn normal(text: &str) -> Vec<&str> {
    let lines = text.lines().map(str::trim_end);
    lines.map(|line| if line.starts_with("Date: ") { "Date" } else { line }).collect()
}

#[test]
fn examples_with_curl_are_true() {
    let server = Server::start();
    let (mut problems, mut count) = (Vec::new(), 0);
    for page in PAGES {
        for (_, block) in
            code_blocks(&read(page)).iter().filter(|(language, _)| language == "console")
        {
            let examples = format!("\n{block}");
            for example in examples.split("\n$ ").filter(|example| example.starts_with("curl ")) {
                let (command, shown) = example.split_once('\n').unwrap_or((example, ""));
                let Some(printed) = output(&server, command) else { continue };
                count += 1;
                if normal(shown.trim_end()) != normal(printed.trim_end()) {
                    problems.push(format!("{page}: {command} prints:\n{printed}"));
                }
            }
        }
    }
    assert_none(&problems);
    assert!(count >= 4, "{count} examples");
}
