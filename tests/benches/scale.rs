//! What an event costs as the workspace grows: with one, 300 and 1,000 audiences, with many thresholds over few features, in
//! memory, and on a device that very many people share.
//!
//! `cargo bench --bench scale` prints each ratio beside its bound; nothing here passes or fails. `-- audiences`, `-- thresholds`,
//! `-- memory` or `-- device` measures that part alone, `-- audiences 300` that number alone, `-- quick` sends a tenth of the
//! events.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a measurement that cannot go on has to stop, and to say where"
)]
#![allow(clippy::print_stdout, reason = "a table on standard output is what this program is for")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod figures;
mod wire;

use std::time::{Duration, Instant};

use base64::Engine as _;
use kith_tests::{Client, Process, Random, component};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::figures::{Asked, median};
use crate::wire::Wire;

/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The events of a shop with a site, an app, a newsletter and a help desk. One in sixty-four events has each name.
const NAMES: [&str; 64] = [
    "Page Viewed",
    "Product Viewed",
    "Product List Viewed",
    "Product List Filtered",
    "Products Searched",
    "Product Clicked",
    "Product Added",
    "Product Removed",
    "Cart Viewed",
    "Cart Shared",
    "Checkout Started",
    "Checkout Step Viewed",
    "Checkout Step Completed",
    "Payment Info Entered",
    "Order Completed",
    "Order Updated",
    "Order Refunded",
    "Order Cancelled",
    "Coupon Entered",
    "Coupon Applied",
    "Coupon Denied",
    "Coupon Removed",
    "Product Added to Wishlist",
    "Product Removed from Wishlist",
    "Wishlist Product Added to Cart",
    "Product Shared",
    "Product Reviewed",
    "Promotion Viewed",
    "Promotion Clicked",
    "Signed Up",
    "Signed In",
    "Signed Out",
    "Password Reset",
    "Profile Updated",
    "Address Added",
    "Newsletter Subscribed",
    "Newsletter Unsubscribed",
    "Email Opened",
    "Email Clicked",
    "Push Opened",
    "Push Dismissed",
    "Application Installed",
    "Application Opened",
    "Application Backgrounded",
    "Application Updated",
    "Application Crashed",
    "Deep Link Opened",
    "Video Started",
    "Video Completed",
    "Article Read",
    "Guide Downloaded",
    "Store Located",
    "Store Visited",
    "Appointment Booked",
    "Appointment Cancelled",
    "Chat Started",
    "Chat Ended",
    "Ticket Opened",
    "Ticket Closed",
    "Survey Answered",
    "Loyalty Joined",
    "Points Earned",
    "Points Redeemed",
    "Subscription Renewed",
];
const CATEGORIES: [&str; 10] =
    ["shoes", "bags", "coats", "shirts", "hats", "belts", "socks", "scarves", "gloves", "watches"];
const PEOPLE: u64 = 10_000;
const ROUNDS: usize = 3;
const BATCH: u64 = 100;
const CONNECTIONS: u64 = 2;

/// The condition of audience `number`: five shapes over every name in turn. So with 300 audiences an event reaches five
/// conditions by its name, and with 1,000 sixteen; of these, those with a filter only where its category is theirs.
fn condition(number: usize) -> String {
    let name = NAMES[number % NAMES.len()];
    let turn = number / NAMES.len();
    let other = NAMES[(number + 7) % NAMES.len()];
    let category = CATEGORIES[(number / 5) % CATEGORIES.len()];
    let days = [1, 3, 7, 14, 30, 60, 90][turn % 7];
    let times = 1 + turn % 4;
    match number % 5 {
        0 => format!("events('{name}', '{days}d').size() >= {times}"),
        1 => format!("events('{name}', '{days}d').exists(e, e.category == '{category}')"),
        2 => {
            format!("events('{name}').filter(e, e.category == '{category}').size() > {times} && traits.plan == 'team'")
        }
        3 => format!("events('{name}', '{days}d').map(e, e.total).sum() > {}.0", 50 * (1 + turn)),
        _ => format!("events('{name}', '{days}d').size() == 0 && events('{other}', '30d').size() >= {times}"),
    }
}

/// Ten features with a hundred thresholds each, or with one.
fn threshold(number: usize) -> String {
    let (feature, threshold) = (number % 10, 1 + number / 10);
    format!("events('{}', '30d').size() >= {threshold}", NAMES[feature])
}

/// A server with audiences, its source, and how many events it was sent.
struct Shop {
    server: Process,
    _folder: TempDir,
    authorization: String,
    sent: u64,
}

/// What one round cost.
#[derive(Clone, Copy)]
struct Cost {
    events_per_s: f64,
    processor_us: f64,
}

impl Shop {
    fn open(audiences: usize, condition: fn(usize) -> String) -> Shop {
        let folder = tempfile::tempdir().unwrap();
        let server = Process::serve(folder.path(), &[]);
        let admin = server.admin();
        admin.send("POST", "/api/v1/plugins", &[], component("kith/segment").component.clone()).is(201);
        let installed = admin.post("/api/v1/installations", &json!({ "plugin": "kith/segment" })).is(201);
        let key = installed["write_key"].as_str().unwrap().to_owned();
        for number in 0..audiences {
            let body = json!({ "name": format!("a{number}"), "condition": condition(number) });
            admin.post("/api/v1/audiences", &body).is(201);
        }
        kith_tests::settle(&admin);
        let authorization = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{key}:")));
        Shop { server, _folder: folder, authorization, sent: 0 }
    }

    /// Send so many events and wait until they are computed.
    fn round(&mut self, events: u64) -> Cost {
        let (begun, processor) = (Instant::now(), self.server.processor_time());
        let first = self.sent;
        std::thread::scope(|scope| {
            for lane in 0..CONNECTIONS {
                let (url, authorization) = (self.server.url(), self.authorization.as_str());
                scope.spawn(move || {
                    let mut wire = Wire::open(url, "/v1/batch", authorization);
                    for begin in (lane * BATCH..events).step_by(usize::try_from(CONNECTIONS * BATCH).unwrap()) {
                        let numbers = first + begin..first + (begin + BATCH).min(events);
                        let messages: Vec<String> = numbers.map(message).collect();
                        post(&mut wire, &messages);
                    }
                });
            }
        });
        self.sent += events;
        computed(&self.server.admin());
        let processor = self.server.processor_time().saturating_sub(processor);
        Cost {
            events_per_s: events as f64 / begun.elapsed().as_secs_f64(),
            processor_us: processor.as_secs_f64() * 1e6 / events as f64,
        }
    }
}

fn post(wire: &mut Wire, messages: &[String]) {
    let (status, answer) = wire.post(&format!(r#"{{"batch":[{}]}}"#, messages.join(",")));
    assert_eq!(status, 200, "{answer}");
}

/// Event `number`: who, what and in which category follow from it.
fn message(number: u64) -> String {
    let mut random = Random::new(number);
    let (user, name) = (random.below(PEOPLE), NAMES[usize::try_from(random.below(64)).unwrap()]);
    let category = CATEGORIES[usize::try_from(random.below(10)).unwrap()];
    let total = random.below(20_000);
    format!(
        r#"{{"type":"track","event":"{name}","userId":"user-{user}","messageId":"m-{number}","properties":{{"category":"{category}","total":{}.{:02}}}}}"#,
        total / 100,
        total % 100
    )
}

/// Wait until everything that was sent is in every audience.
fn computed(admin: &Client) {
    kith_tests::wait_until("all events are computed", || {
        let ready = admin.get("/readyz").json();
        ready["behind"] == 0 && ready["backlog"] == 0 && {
            let audiences = admin.get("/api/v1/audiences").is(200);
            let is_there = |audience: &Value| audience["as_of"].as_u64() >= ready["head"].as_u64();
            audiences["items"].as_array().unwrap().iter().all(is_there)
        }
    });
}

/// Rounds of all shops in turn, so that a change of the machine's speed meets all of them; the costs of each shop.
fn rounds(shops: &mut [Shop], events: u64) -> Vec<Vec<Cost>> {
    let mut costs = vec![Vec::new(); shops.len()];
    // A first round makes the people and warms the processor's caches.
    for shop in shops.iter_mut() {
        shop.round(events / 4);
    }
    for _ in 0..ROUNDS {
        for (shop, costs) in shops.iter_mut().zip(&mut costs) {
            costs.push(shop.round(events));
        }
    }
    costs
}

fn print(what: &str, costs: &[Cost]) -> f64 {
    let figure = |of: fn(&Cost) -> f64| median(costs.iter().map(of));
    let (rate, processor) = (figure(|cost| cost.events_per_s), figure(|cost| cost.processor_us));
    println!("  {what:<44} {rate:>9.0} events/s computed   {processor:>8.1} us of processor an event");
    rate
}

/// Numbers of audiences, with what is asked of the rate beside that of one.
const AUDIENCES: [(usize, Option<f64>); 3] = [(1, None), (300, Some(0.6)), (1_000, Some(0.5))];

fn audiences(events: u64, asked: &[usize]) {
    println!(
        "\ncomputed events/s, first send until every audience has them, {events} events a round, medians of {ROUNDS}"
    );
    let numbers: Vec<(usize, Option<f64>)> =
        AUDIENCES.into_iter().filter(|(number, _)| asked.is_empty() || asked.contains(number)).collect();
    let mut shops: Vec<Shop> = numbers.iter().map(|(number, _)| Shop::open(*number, condition)).collect();
    let costs = rounds(&mut shops, events);
    let rates: Vec<f64> = numbers
        .iter()
        .zip(&costs)
        .map(|((number, _), costs)| {
            print(&format!("{number} audiences over {} event names", NAMES.len().min(*number)), costs)
        })
        .collect();
    for ((number, bound), rate) in numbers.iter().zip(&rates) {
        if let Some(bound) = bound
            && numbers[0].0 == 1
        {
            println!("  {number} beside one: {:.2} x (bound: >= {bound})", rate / rates[0]);
        }
    }
}

fn thresholds(events: u64) {
    println!(
        "\nten features with 100 thresholds each, beside ten audiences, {events} events a round, medians of {ROUNDS}"
    );
    let numbers = [10, 1_000];
    let mut shops: Vec<Shop> = numbers.iter().map(|number| Shop::open(*number, threshold)).collect();
    let costs = rounds(&mut shops, events);
    let rates: Vec<f64> =
        numbers.iter().zip(&costs).map(|(number, costs)| print(&format!("{number} audiences"), costs)).collect();
    println!("  cost of 1,000 beside ten: {:.2} x (bound: <= 1.3)", rates[0] / rates[1]);
}

fn memory(events: u64) {
    println!("\nresident memory after {events} events of {} people, settled", PEOPLE.min(events));
    let held: Vec<f64> = [1, 300]
        .into_iter()
        .map(|number| {
            let mut shop = Shop::open(number, condition);
            shop.round(events);
            let mib = shop.server.resident_bytes() as f64 / f64::from(1 << 20);
            println!("  {:<44} {mib:>9.0} MiB", format!("{number} audiences"));
            mib
        })
        .collect();
    println!("  300 beside one: {:.2} x (bound: <= 2)", held[1] / held[0]);
}

/// The longest that one batch of the shared device may take before the measurement gives up.
const PATIENCE: Duration = Duration::from_secs(5);

fn device(events: u64) {
    println!("\none device that a new user signs in on with each of {events} events, batches of {BATCH}, one audience");
    let shop = Shop::open(1, condition);
    let mut wire = Wire::open(shop.server.url(), "/v1/batch", &shop.authorization);
    let mut batches = Vec::new();
    for begin in (0..events).step_by(usize::try_from(BATCH).unwrap()) {
        let messages: Vec<String> = (begin..begin + BATCH)
            .map(|number| {
                format!(
                    r#"{{"type":"track","event":"Signed In","anonymousId":"kiosk","userId":"guest-{number}","messageId":"k-{number}"}}"#
                )
            })
            .collect();
        let (begun, processor) = (Instant::now(), shop.server.processor_time());
        post(&mut wire, &messages);
        computed(&shop.server.admin());
        batches.push((begun.elapsed(), shop.server.processor_time().saturating_sub(processor)));
        if begun.elapsed() > PATIENCE {
            println!(
                "  given up after {} events: one batch took {:.1} s",
                begin + BATCH,
                begun.elapsed().as_secs_f64()
            );
            break;
        }
    }
    // The system counts processor time in steps of 10 ms, so that a tenth of all batches is taken together.
    let tenth = (batches.len() / 10).max(1);
    let (first, last) = (&batches[..tenth], &batches[batches.len() - tenth..]);
    let wall = |part: &[(Duration, Duration)]| {
        let mut times: Vec<Duration> = part.iter().map(|(wall, _)| *wall).collect();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e3
    };
    let processor = |part: &[(Duration, Duration)]| {
        part.iter().map(|(_, processor)| processor.as_secs_f64()).sum::<f64>() * 1e3 / part.len() as f64
    };
    for (what, part) in [("first tenth", first), ("last tenth", last)] {
        println!("  {what:<44} {:>9.1} ms for 100 events   {:>8.1} ms of processor", wall(part), processor(part));
    }
    println!(
        "  last beside first: {:.2} x in time, {:.2} x in processor time (bound: <= 2)",
        wall(last) / wall(first),
        processor(last) / processor(first)
    );
}

fn main() {
    let Some(asked) = Asked::of("scale") else { return };
    let share = if asked.is_quick { 10 } else { 1 };
    if asked.part("audiences") {
        audiences(40_000 / share, &asked.numbers);
    }
    if asked.part("thresholds") {
        thresholds(40_000 / share);
    }
    if asked.part("memory") {
        memory(20_000);
    }
    if asked.part("device") {
        device(10_000);
    }
}
