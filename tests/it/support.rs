//! A server under test and a small HTTP client.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::{OFlags, fcntl_setfl};
use socket2::{Domain, SockRef, Socket, Type};

/// Far more than anything here takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what cannot be awaited as an event: for a figure of the kernel to change, say.
#[expect(clippy::disallowed_methods, reason = "the kernel does not tell when its figures change")]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "still not so: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A running server, which is killed when the test is done with it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    address: SocketAddr,
    /// What it said before it said where it listens.
    preface: String,
}

impl Server {
    /// Starts a server on a port of its own.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", flags)
    }

    /// Starts a server on this address, and waits until it listens.
    pub(crate) fn start_on(address: &str, flags: &[&str]) -> Self {
        let mut server = command();
        server.args(["--listen", address]).args(flags);
        Self::spawn(server)
    }

    /// Starts another copy of the program.
    pub(crate) fn start_program(program: &Path, flags: &[&str]) -> Self {
        let mut server = Command::new(program);
        server.env_clear().args(["--listen", "127.0.0.1:0"]).args(flags);
        Self::spawn(server)
    }

    /// Starts a server under a limit, as the shell's `ulimit` takes it: `-n 64` for so many open files.
    pub(crate) fn start_with_limit(limit: &str) -> Self {
        let mut shell = Command::new("sh");
        let binary = env!("CARGO_BIN_EXE_fibsrv");
        let script = format!("ulimit {limit}; exec '{binary}' --listen 127.0.0.1:0");
        shell.env_clear().arg("-c").arg(script);
        Self::spawn(shell)
    }

    /// Starts a server by this command, and waits until it listens.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut preface = String::new();
        let address = loop {
            let mut line = String::new();
            let length = stdout.read_line(&mut line).expect("a log line");
            if let Some((_, address)) = line.trim().rsplit_once("listening on ") {
                break address.parse().expect("an address");
            }
            preface.push_str(&line);
            assert!(length > 0, "the server did not say where it listens: {preface:?}");
        };
        Self { child, stdout: Some(stdout), address, preface }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The lines it logged before the one that says where it listens.
    pub(crate) fn preface(&self) -> &str {
        &self.preface
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, as in `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.id(), name);
    }

    /// What it has counted, by name and labels as they stand in its metrics.
    pub(crate) fn counted(&self) -> BTreeMap<String, f64> {
        counted(&self.get("/metrics").body)
    }

    /// The reading end of the pipe that the server logs to. Whoever takes it reads it, or does not.
    pub(crate) fn take_log(&mut self) -> BufReader<ChildStdout> {
        self.stdout.take().expect("a log that nobody has taken")
    }

    /// Waits for the server's end; returns its status and the rest of its log.
    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let mut log = String::new();
        if let Some(mut stdout) = self.stdout.take() {
            stdout.read_to_string(&mut log).expect("text");
        }
        (self.child.wait().expect("a child"), log)
    }

    /// Waits for a log line with this text.
    pub(crate) fn await_log(&mut self, text: &str) {
        let stdout = self.stdout.as_mut().expect("the log is still read");
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(stdout.read_line(&mut line).expect("text") > 0, "it ended without {text:?}");
        }
    }

    /// What it has logged and nobody has read, without waiting for more.
    fn rest_of_log(&mut self) -> String {
        let Some(stdout) = &mut self.stdout else { return "(read elsewhere)".to_owned() };
        fcntl_setfl(stdout.get_ref(), OFlags::NONBLOCK).expect("a pipe");
        let mut log = Vec::new();
        match stdout.read_to_end(&mut log) {
            Ok(_) => {}
            Err(error) => log.extend(format!("({error})").bytes()), // a worker may live on
        }
        String::from_utf8_lossy(&log).into_owned()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// One request for `target` on a connection of its own.
    pub(crate) fn get(&self, target: &str) -> Reply {
        self.connect().get(target)
    }

    /// Sends bytes and the end of the stream; returns all that comes back.
    pub(crate) fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut client = self.connect();
        client.send(bytes);
        client.stream.shutdown(Shutdown::Write).unwrap();
        client.read_to_end()
    }
}

impl Drop for Server {
    #[expect(clippy::print_stderr, reason = "the test shows it when it has failed")]
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        // It may have ended by itself, which is what a test may have wanted.
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            eprintln!("the server at {} had ended: {ended:?}; its log goes on:", self.address);
            eprintln!("{}", self.rest_of_log());
        }
    }
}

/// The samples of a scrape.
pub(crate) fn counted(metrics: &str) -> BTreeMap<String, f64> {
    let samples = metrics.lines().filter(|line| !line.starts_with('#'));
    let pairs = samples.filter_map(|line| line.rsplit_once(' '));
    pairs.map(|(key, value)| (key.to_owned(), value.parse().expect("a number"))).collect()
}

/// Which of them says how many numbers were asked for.
pub(crate) const ANSWERED: &str =
    r#"fibsrv_requests_total{handler="fibonacci",method="GET",code="200"}"#;

/// Sends a signal by name to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    assert!(status.expect("kill is there").success());
}

/// Stops a process, and waits until it is: it will not accept any more.
pub(crate) fn halt(pid: u32) {
    signal(pid, "STOP");
    eventually("it has stopped", || state(pid) == Some('T'));
}

/// A process's state as one letter; `T` is stopped, `Z` has ended.
pub(crate) fn state(pid: u32) -> Option<char> {
    stat(pid).ok()?.chars().next()
}

/// The fields of proc(5) behind the name, which is in parentheses and may hold anything.
pub(crate) fn stat(pid: u32) -> io::Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(text.rsplit_once(") ").map(|(_, fields)| fields.to_owned()).unwrap_or_default())
}

/// The server's executable, without anything from the environment of the test.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fibsrv"));
    command.env_clear();
    command
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).expect("a connection"))
    }

    /// A client whose own kernel buffers are as small as can be, so that it is the server's that count.
    pub(crate) fn connect_narrow(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap(); // before connecting, as it sets the window
        socket.set_send_buffer_size(4096).unwrap();
        socket.connect(&address.into()).expect("a connection");
        Self::of(socket.into())
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new() }
    }

    /// Goes as a client goes that is killed: with a reset, which takes what is under way with it.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Says that nothing more will be sent.
    pub(crate) fn end(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    pub(crate) fn get(&mut self, target: &str) -> Reply {
        self.send(request("GET", target).as_bytes());
        self.reply()
    }

    /// The next reply with content.
    pub(crate) fn reply(&mut self) -> Reply {
        self.next_reply(Content::Present)
    }

    /// The next reply, which answers HEAD.
    pub(crate) fn reply_to_head(&mut self) -> Reply {
        self.next_reply(Content::Absent)
    }

    fn next_reply(&mut self, content: Content) -> Reply {
        loop {
            if let Some((reply, used)) = Reply::parse(&self.received, content) {
                self.received.drain(..used);
                return reply;
            }
            assert!(self.read_more().expect("a reply") > 0, "the server closed: {self:?}");
        }
    }

    fn read_more(&mut self) -> io::Result<usize> {
        self.sip(4096)
    }

    /// Sends the same again and again until the server resets the connection; returns the number of bytes.
    pub(crate) fn flood(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        loop {
            match self.stream.write(&bytes[sent % bytes.len()..]) {
                Ok(count) => sent += count,
                Err(error) if is_reset(&error) => return sent,
                Err(error) => panic!("neither taken nor reset after {sent} bytes: {error}"),
            }
        }
    }

    /// Takes at most this many bytes; none at the end, and an error after a reset.
    pub(crate) fn sip(&mut self, most: usize) -> io::Result<usize> {
        let mut bytes = vec![0; most];
        let count = loop {
            match self.stream.read(&mut bytes) {
                // A read with a time limit does not go on by itself where the machine was halted.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome?,
            }
        };
        self.received.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    /// The replies that have come whole, in what has been sipped so far.
    pub(crate) fn sipped(&mut self) -> Vec<Reply> {
        let mut replies = Vec::new();
        while let Some((reply, used)) = Reply::parse(&self.received, Content::Present) {
            self.received.drain(..used);
            replies.push(reply);
        }
        replies
    }

    /// All that comes until the server closes.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        while self.read_more().expect("an orderly end") > 0 {}
        std::mem::take(&mut self.received)
    }

    /// Whether the server has closed in order, with nothing more to say.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.read_to_end().is_empty()
    }
}

/// Whether the other side has reset the connection; a write that comes after that finds a broken pipe.
pub(crate) fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Present,
    Absent,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    /// The first reply in `bytes`, if it is complete, and its length.
    fn parse(bytes: &[u8], content: Content) -> Option<(Self, usize)> {
        let head_length = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = str::from_utf8(&bytes[..head_length]).expect("an ASCII head");
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().expect("a status line");
        let fields: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").expect("a field"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut reply = Self {
            status: status_line.split(' ').nth(1).expect("a code").parse().expect("a number"),
            fields,
            body: String::new(),
        };
        let length = match content {
            Content::Present => {
                reply.field("Content-Length").map_or(0, |text| text.parse().unwrap())
            }
            Content::Absent => 0,
        };
        let body = bytes.get(head_length..head_length + length)?;
        reply.body = String::from_utf8(body.to_vec()).expect("text");
        Some((reply, head_length + length))
    }

    /// Every reply in `bytes`, none of them to HEAD.
    pub(crate) fn parse_all(mut bytes: &[u8]) -> Vec<Self> {
        let mut replies = Vec::new();
        while let Some((reply, length)) = Self::parse(bytes, Content::Present) {
            replies.push(reply);
            bytes = &bytes[length..];
        }
        assert!(bytes.is_empty(), "an incomplete reply: {}", bytes.escape_ascii());
        replies
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// A request without content.
pub(crate) fn request(method: &str, target: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: test\r\n\r\n")
}
