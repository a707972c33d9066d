//! `llama-server` in a guest answers the host over a forwarded port, while another process uses the device; what is
//! interrupted or killed leaves nothing behind.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use super::http::{self, Event};
use super::{Machine, Stage, number, succeeded};

/// From the start of QEMU until both servers answer.
const READY: Duration = Duration::from_secs(240);

/// Tokens of a compared answer.
const TOKENS: u64 = 16;

/// The ports in the guest of the server on the device and of the one on its processor.
const PORTS: [u16; 2] = [8080, 8081];

const PROMPTS: [&str; 4] = [
    "Once upon a time",
    "The lighthouse stood on the last rock before the open sea",
    "0123456789",
    "Every evening the keeper climbed its narrow stairs, filled the lamp with oil, and wiped the salt from the glass.",
];

const SCRIPT: &str = r#"
echo "before $(memory)"
SERVE="llama-server -m /share/model.gguf -fit off -np 4 -c 4096 -t 2 -lv 4 --no-warmup --no-webui --host 0.0.0.0"
$SERVE -ngl 99 --port 8080 >/share/server.log 2>&1 &
server=$!
$SERVE --device none --port 8081 >/share/server-cpu.log 2>&1 &
cpu=$!
appears compared
kill $cpu
wait $cpu || true
echo "serving $(memory)"
appears streaming
llama-bench -m /share/model.gguf -ngl 99 -p 32 -n 8 -r 1 -o csv >/share/bench.csv
touch /share/measured
appears interrupt
kill -INT $server
status=0
wait $server || status=$?
echo "interrupted $status"
echo "after $(memory)"
$COMPLETE -n 900 -p "Once upon a time" </dev/null >/share/killed.txt &
killed=$!
while ! [ -s /share/killed.txt ]; do kill -0 $killed; sleep 0.1; done
echo "running $(memory)"
kill -9 $killed
status=0
wait $killed || status=$?
echo "killed $status"
# The next process takes the dead one's channel over.
for try in 1 2 3 4 5 6 7 8 9 10; do
    left=$(memory)
    [ "$left" -eq 0 ] && break
    sleep 1
done
echo "left $left"
$COMPLETE -n 8 -p "Once upon a time" </dev/null >/share/again.txt
test -s /share/again.txt
echo "end $(memory)"
"#;

pub(super) fn run(stage: &Stage) -> Result<String> {
    let mut machine = Machine::new(stage, 111, &stage.exact)?;
    let (gpu, cpu) = (http::free_port()?, http::free_port()?);
    ensure!(gpu != cpu, "the same free port twice");
    machine.options.forwards = vec![(gpu, PORTS[0]), (cpu, PORTS[1])];
    let ended = AtomicBool::new(false);
    let (outcome, talked) = thread::scope(|scope| {
        let guest = scope.spawn(|| {
            let outcome = machine.run(SCRIPT);
            ended.store(true, Ordering::Release);
            outcome
        });
        let talked = talk(&machine, gpu, cpu, &ended);
        if talked.is_err() {
            // The guest goes on, to its end or to a failure of its own.
            for step in ["compared", "streaming", "interrupt"] {
                let _ = fs::write(machine.share().join(step), "");
            }
        }
        let outcome = guest.join();
        (
            outcome.unwrap_or_else(|_| Err(anyhow!("the guest's thread panicked"))),
            talked,
        )
    });
    let told = || {
        let log = machine.file("server.log");
        let tail: Vec<_> = log.lines().rev().take(12).collect();
        let tail: Vec<_> = tail.into_iter().rev().collect();
        format!("the server's log ends:\n{}", tail.join("\n"))
    };
    let events = talked.with_context(told)?;
    let outcome = outcome?;
    succeeded(&outcome, &machine).with_context(told)?;
    let log = machine.file("server.log");
    ensure!(
        log.contains("offloaded 3/3 layers to GPU"),
        "the server's log has no \"offloaded 3/3 layers to GPU\""
    );
    let memory = ["before", "serving", "after", "running", "left", "end"]
        .map(|word| number(&outcome, word))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let [before, serving, after, running, left, end] = memory[..] else {
        return Err(anyhow!("six numbers are no six numbers"));
    };
    ensure!(
        before == 0 && after == 0 && left == 0 && end == 0,
        "device memory in use, in MiB: {before} before, {after} after the interrupt, {left} after the kill, {end} at the end"
    );
    ensure!(
        serving > 0 && running > 0,
        "no device memory was in use while programs ran"
    );
    ensure!(
        number(&outcome, "killed")? == 137,
        "the program to kill had ended before"
    );
    let bench = machine.file("bench.csv");
    ensure!(
        bench.lines().count() == 3 && bench.contains("CUDA"),
        "llama-bench printed\n{bench}"
    );
    machine.sessions("llama-server", 1)?;
    machine.sessions("llama-bench", 1)?;
    machine.sessions("llama-completion", 2)?;
    Ok(format!(
        "{} of {}, {events} events beside llama-bench",
        outcome.accel.name(),
        machine.options.ram
    ))
}

/// All that the host asks; gives the events that came while another process used the device.
fn talk(machine: &Machine, gpu: u16, cpu: u16, ended: &AtomicBool) -> Result<u64> {
    let gone = || ended.load(Ordering::Acquire);
    for port in [gpu, cpu] {
        http::wait_until_ready(port, READY, &gone)?;
    }
    let mut wanted = Vec::new();
    for prompt in PROMPTS {
        wanted.push(whole(cpu, prompt).context("the server on the processor")?);
    }
    let alone = whole(gpu, PROMPTS[0])?;
    same(PROMPTS[0], &alone, &wanted[0])?;
    // All at once, as streams; one of them in the form of a chat.
    let texts = thread::scope(|scope| {
        let requests = PROMPTS.map(|prompt| scope.spawn(move || streamed(gpu, prompt)));
        let chat = scope.spawn(move || chat(gpu));
        let texts = requests.map(|request| {
            let text = request.join();
            text.unwrap_or_else(|_| Err(anyhow!("the request panicked")))
        });
        let chat = chat.join();
        chat.unwrap_or_else(|_| Err(anyhow!("the request panicked")))
            .context("/v1/chat/completions")?;
        texts.into_iter().collect::<Result<Vec<_>>>()
    })?;
    for ((prompt, text), wanted) in PROMPTS.iter().zip(&texts).zip(&wanted) {
        same(prompt, text, wanted).context("several at once")?;
    }
    let tell = |step: &str| fs::write(machine.share().join(step), "");
    tell("compared")?;
    let (events, stopping) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let result = keep_busy(gpu, &events, &stopping);
            // Nobody waits for an event that cannot come.
            stopping.store(true, Ordering::Release);
            result
        });
        let more = |than: u64| -> Result<u64> {
            loop {
                let now = events.load(Ordering::Acquire);
                if now > than {
                    return Ok(now);
                }
                ensure!(
                    !gone() && !stopping.load(Ordering::Acquire),
                    "the stream ended after {now} events"
                );
                thread::sleep(Duration::from_millis(20));
            }
        };
        let watched = (|| {
            let start = more(0)?;
            tell("streaming")?;
            while !machine.share().join("measured").exists() {
                ensure!(!gone(), "the guest ended in llama-bench");
                thread::sleep(Duration::from_millis(50));
            }
            let beside = events.load(Ordering::Acquire) - start;
            ensure!(beside > 0, "no token came while llama-bench ran");
            // The server lives, and is in the middle of an answer when it is interrupted.
            more(events.load(Ordering::Acquire))?;
            Ok(beside)
        })();
        stopping.store(true, Ordering::Release);
        tell("interrupt")?;
        let busy = busy.join();
        busy.unwrap_or_else(|_| Err(anyhow!("the request panicked")))?;
        watched
    })
}

/// The model's tokens are bytes. A stream does not send those of a character that is not whole at its end.
fn same(prompt: &str, text: &str, wanted: &str) -> Result<()> {
    let whole = |text: &str| {
        text.trim_end_matches(char::REPLACEMENT_CHARACTER)
            .to_owned()
    };
    let (text, wanted) = (whole(text), whole(wanted));
    ensure!(
        text == wanted && !wanted.is_empty(),
        "{prompt:?} goes on with {text:?} on the device and with {wanted:?} on the processor"
    );
    Ok(())
}

fn request(prompt: &str, tokens: u64, stream: bool) -> String {
    json!({
        "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": true,
        "cache_prompt": false, "stream": stream,
    })
    .to_string()
}

/// The text of an answer that comes at once.
fn whole(port: u16, prompt: &str) -> Result<String> {
    let body = request(prompt, TOKENS, false);
    let answer = http::send(port, "/v1/completions", Some(&body))?.json()?;
    let used = answer["usage"]["completion_tokens"].as_u64();
    ensure!(used == Some(TOKENS), "{TOKENS} tokens asked for: {answer}");
    let text = answer["choices"][0]["text"].as_str();
    Ok(text
        .with_context(|| format!("no text: {answer}"))?
        .to_owned())
}

/// The pieces of a stream, put together.
fn pieces(port: u16, path: &str, body: &str, piece: fn(&Value) -> Option<&str>) -> Result<String> {
    let mut answer = http::send(port, path, Some(body))?;
    ensure!(answer.status == 200, "status {}", answer.status);
    let (mut text, mut count, mut done) = (String::new(), 0, false);
    while let Some(event) = answer.event()? {
        match event {
            Event::Done => done = true,
            Event::Data(data) => {
                ensure!(data.get("error").is_none(), "{data}");
                let piece = piece(&data).unwrap_or_default();
                count += u64::from(!piece.is_empty());
                text.push_str(piece);
            }
        }
    }
    ensure!(done, "the stream ended without [DONE], after {text:?}");
    ensure!(count > 1, "{text:?} came in {count} pieces");
    Ok(text)
}

fn streamed(port: u16, prompt: &str) -> Result<String> {
    let body = request(prompt, TOKENS, true);
    pieces(port, "/v1/completions", &body, |event| {
        event["choices"][0]["text"].as_str()
    })
}

fn chat(port: u16) -> Result<String> {
    let body = json!({
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": TOKENS, "temperature": 0, "ignore_eos": true, "stream": true,
    });
    pieces(port, "/v1/chat/completions", &body.to_string(), |event| {
        event["choices"][0]["delta"]["content"].as_str()
    })
}

/// One long answer after another, until the server is gone.
fn keep_busy(port: u16, events: &AtomicU64, stopping: &AtomicBool) -> Result<()> {
    let body = request(PROMPTS[0], 900, true);
    loop {
        let stopped = || stopping.load(Ordering::Acquire);
        let mut answer = match http::send(port, "/v1/completions", Some(&body)) {
            Ok(answer) => answer,
            Err(_) if stopped() => return Ok(()),
            Err(error) => return Err(error),
        };
        loop {
            match answer.event() {
                Ok(Some(_)) => events.fetch_add(1, Ordering::AcqRel),
                Ok(None) => break,
                Err(_) if stopped() => return Ok(()),
                Err(error) => return Err(error),
            };
        }
    }
}
