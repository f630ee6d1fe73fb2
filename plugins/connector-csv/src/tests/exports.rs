//! Thirty files as programs of many countries export them, each with the people, times and values that are in it.

use super::*;

/// An export: what it is, its mapping, its bytes, and the events in it: identifier, time in RFC 3339, properties and traits.
struct Export {
    name: &'static str,
    config: Value,
    body: Vec<u8>,
    events: Vec<(&'static str, Option<&'static str>, Value)>,
}

fn mapped(identifiers: Value, fields: Value, time: Option<Value>) -> Value {
    let mut config = json!({ "event": { "name": "E" }, "identifiers": identifiers, "properties": fields });
    if let Some(time) = time {
        config["time"] = time;
    }
    config
}

fn export(
    name: &'static str,
    config: Value,
    body: impl Into<Vec<u8>>,
    events: Vec<(&'static str, Option<&'static str>, Value)>,
) -> Export {
    Export { name, config, body: body.into(), events }
}

fn utf16(text: &str) -> Vec<u8> {
    "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

fn in_encoding(label: &str, text: &str) -> Vec<u8> {
    match crate::encoding::named(label).unwrap() {
        crate::charset::Charset::Standard(encoding) => encoding.encode(text).0.into_owned(),
        crate::charset::Charset::Dos(page) => page.encode(text).unwrap(),
    }
}

fn number(column: &str) -> Value {
    json!({ "column": column, "type": "number" })
}

fn europe() -> Vec<Export> {
    vec![
        export(
            "Excel, Germany",
            mapped(
                json!({"user_id": "Kundennummer"}),
                json!({"betrag": number("Betrag"), "ort": "Ort"}),
                Some(json!({"column": "Datum", "zone": "Europe/Berlin"})),
            ),
            in_encoding(
                "windows-1252",
                "Kundennummer;Datum;Betrag;Ort\r\n0815;05.01.2026;1.234,50 €;Köln\r\n4711;06.01.2026 14:30;-12,00 €;Größlingen\r\n;;;\r\n",
            ),
            vec![
                ("0815", Some("2026-01-04T23:00:00Z"), json!({"betrag": 1234.5, "ort": "Köln"})),
                ("4711", Some("2026-01-06T13:30:00Z"), json!({"betrag": -12.0, "ort": "Größlingen"})),
            ],
        ),
        export(
            "DATEV, with a first line that names the delimiter",
            mapped(
                json!({"user_id": "Konto"}),
                json!({"umsatz": number("Umsatz")}),
                Some(json!({"column": "Belegdatum"})),
            ),
            "sep=;\r\n\"Konto\";\"Umsatz\";\"Belegdatum\"\r\n\"10001\";\"119,00\";\"31.12.25\"\r\n\"10002\";\"1.000,00\";\"01.01.26\"\r\n",
            vec![
                ("10001", Some("2025-12-31T00:00:00Z"), json!({"umsatz": 119.0})),
                ("10002", Some("2026-01-01T00:00:00Z"), json!({"umsatz": 1000.0})),
            ],
        ),
        export(
            "SAP, minus behind the number, tabs and leading zeros",
            mapped(
                json!({"user_id": "KUNNR"}),
                json!({"netwr": number("NETWR"), "waerk": "WAERK"}),
                Some(json!({"column": "ERDAT"})),
            ),
            "KUNNR\tNETWR\tWAERK\tERDAT\r\n0000100023\t1.250,00-\tEUR\t20260105\r\n0000100024\t12,50 \tEUR\t20260106\r\n",
            vec![
                ("0000100023", Some("2026-01-05T00:00:00Z"), json!({"netwr": -1250.0, "waerk": "EUR"})),
                ("0000100024", Some("2026-01-06T00:00:00Z"), json!({"netwr": 12.5, "waerk": "EUR"})),
            ],
        ),
        export(
            "Excel, France, narrow spaces between thousands",
            mapped(
                json!({"email": "Courriel"}),
                json!({"montant": number("Montant"), "actif": {"column": "Actif", "type": "boolean"}}),
                Some(json!({"column": "Date", "order": "day-first"})),
            ),
            "\u{feff}Courriel;Date;Montant;Actif\r\namelie@exemple.fr;05/01/2026 09:15;1\u{202f}234,56 €;VRAI\r\nrene@exemple.fr;13/01/2026;12\u{a0}345,6;FAUX\r\n",
            vec![
                ("amelie@exemple.fr", Some("2026-01-05T09:15:00Z"), json!({"montant": 1234.56, "actif": true})),
                ("rene@exemple.fr", Some("2026-01-13T00:00:00Z"), json!({"montant": 12345.6, "actif": false})),
            ],
        ),
    ]
}

fn rest_of_europe() -> Vec<Export> {
    vec![
        export(
            "A French letter of dates",
            mapped(json!({"email": "e"}), json!({}), Some(json!({"column": "le"}))),
            "e,le\na@b.fr,lundi 5 janvier 2026 à 10h30\nb@b.fr,1er février 2026\n",
            vec![
                ("a@b.fr", Some("2026-01-05T10:30:00Z"), json!({})),
                ("b@b.fr", Some("2026-02-01T00:00:00Z"), json!({})),
            ],
        ),
        export(
            "Switzerland, apostrophes",
            mapped(json!({"user_id": "Nr"}), json!({"chf": number("Betrag")}), None),
            "Nr;Betrag\r\n1;CHF 1'234.50\r\n2;1’000.—\r\n",
            vec![("1", None, json!({"chf": 1234.5})), ("2", None, json!({"chf": 1000}))],
        ),
        export(
            "Spain, words for yes and no",
            mapped(
                json!({"email": "Correo"}),
                json!({"socio": {"column": "Socio", "type": "boolean"}}),
                Some(json!({"column": "Alta"})),
            ),
            "Correo,Socio,Alta\nana@e.es,Sí,5 de enero de 2026\nluis@e.es,No,\"lunes, 12 de enero de 2026\"\n",
            vec![
                ("ana@e.es", Some("2026-01-05T00:00:00Z"), json!({"socio": true})),
                ("luis@e.es", Some("2026-01-12T00:00:00Z"), json!({"socio": false})),
            ],
        ),
        export(
            "Poland, windows-1250",
            mapped(json!({"email": "email"}), json!({"kwota": number("kwota"), "miasto": "miasto"}), None),
            in_encoding(
                "windows-1250",
                "email;kwota;miasto\r\nz@p.pl;1 234,50 zł;Łódź i Świętochłowice\r\ny@p.pl;5,00 zł;Gdańsk, Żółta Droga\r\n",
            ),
            vec![
                ("z@p.pl", None, json!({"kwota": 1234.5, "miasto": "Łódź i Świętochłowice"})),
                ("y@p.pl", None, json!({"kwota": 5.0, "miasto": "Gdańsk, Żółta Droga"})),
            ],
        ),
        export(
            "1C, Russia",
            mapped(json!({"phone": "Телефон"}), json!({"sum": number("Сумма")}), Some(json!({"column": "Дата"}))),
            in_encoding("windows-1251", "Телефон;Сумма;Дата\r\n+7 912 000-00-00;1 234,50 руб.;05.01.2026 10:00:00\r\n"),
            vec![("+7 912 000-00-00", Some("2026-01-05T10:00:00Z"), json!({"sum": 1234.5}))],
        ),
    ]
}

fn asia() -> Vec<Export> {
    vec![
        export(
            "Japan, Shift_JIS and eras",
            mapped(
                json!({"user_id": "会員番号"}),
                json!({"kin": number("金額"), "na": "氏名"}),
                Some(json!({"column": "購入日"})),
            ),
            in_encoding(
                "shift_jis",
                "会員番号,氏名,購入日,金額\r\n00012,山田　太郎,令和8年1月5日,\"￥1,234\"\r\n00013,鈴木 花子,2026年1月6日,\"￥12,345\"\r\n",
            ),
            vec![
                ("00012", Some("2026-01-05T00:00:00Z"), json!({"kin": 1234, "na": "山田　太郎"})),
                ("00013", Some("2026-01-06T00:00:00Z"), json!({"kin": 12345, "na": "鈴木 花子"})),
            ],
        ),
        export(
            "Rakuten, slashes with the year in front",
            mapped(json!({"email": "メール"}), json!({}), Some(json!({"column": "注文日時", "zone": "Asia/Tokyo"}))),
            "メール,注文日時\na@b.jp,2026/01/05 9:05\nc@b.jp,2026/01/05 19:05:30\n",
            vec![
                ("a@b.jp", Some("2026-01-05T00:05:00Z"), json!({})),
                ("c@b.jp", Some("2026-01-05T10:05:30Z"), json!({})),
            ],
        ),
        export(
            "China, GB18030",
            mapped(json!({"user_id": "编号"}), json!({"je": number("金额")}), Some(json!({"column": "时间"}))),
            in_encoding(
                "gb18030",
                "编号,金额,时间\r\n1,￥1234.50,2026年1月5日 10时30分\r\n2,￥8.00,2026-1-6 10:30\r\n",
            ),
            vec![
                ("1", Some("2026-01-05T10:30:00Z"), json!({"je": 1234.5})),
                ("2", Some("2026-01-06T10:30:00Z"), json!({"je": 8.0})),
            ],
        ),
        export(
            "Korea, morning and afternoon",
            mapped(json!({"user_id": "번호"}), json!({}), Some(json!({"column": "일시"}))),
            "번호,일시\n1,2026-01-05 오후 3:05:00\n2,2026. 1. 6. 오전 9:00\n",
            vec![("1", Some("2026-01-05T15:05:00Z"), json!({})), ("2", Some("2026-01-06T09:00:00Z"), json!({}))],
        ),
        export(
            "India, lakhs",
            mapped(json!({"phone": "Mobile"}), json!({"amt": number("Amount")}), Some(json!({"column": "Date"}))),
            "Mobile,Amount,Date\n=\"09876543210\",\"₹ 1,23,456.78\",05-Jan-2026\n=\"09876543211\",\"Rs. 1,000.00\",13-Jan-26\n",
            vec![
                ("09876543210", Some("2026-01-05T00:00:00Z"), json!({"amt": 123456.78})),
                ("09876543211", Some("2026-01-13T00:00:00Z"), json!({"amt": 1000.0})),
            ],
        ),
    ]
}

fn america() -> Vec<Export> {
    vec![
        export(
            "Brazil",
            mapped(
                json!({"cpf": "CPF"}),
                json!({"valor": number("Valor")}),
                Some(json!({"column": "Data", "order": "day-first"})),
            ),
            "CPF;Data;Valor\r\n012.345.678-90;05/01/2026;R$ 1.234,56\r\n",
            vec![("012.345.678-90", Some("2026-01-05T00:00:00Z"), json!({"valor": 1234.56}))],
        ),
        export(
            "Excel, United States",
            mapped(
                json!({"email": "Email"}),
                json!({"total": number("Total"), "zip": "Zip"}),
                Some(json!({"column": "Order Date"})),
            ),
            "Email,Order Date,Total,Zip\r\na@x.com,1/5/2026 3:05 PM,\"$1,234.50\",02134\r\nb@x.com,1/31/2026,($5.00),=\"00501\"\r\n,,,\r\n,,,\r\n",
            vec![
                ("a@x.com", Some("2026-01-05T15:05:00Z"), json!({"total": 1234.5, "zip": "02134"})),
                ("b@x.com", Some("2026-01-31T00:00:00Z"), json!({"total": -5.0, "zip": "00501"})),
            ],
        ),
        export(
            "Unicode text of Excel",
            mapped(json!({"email": "Email"}), json!({"n": "Name"}), None),
            utf16("Email\tName\r\na@x.com\tZoë \"Z\" Ω\r\n"),
            vec![("a@x.com", None, json!({"n": "Zoë \"Z\" Ω"}))],
        ),
        export(
            "Excel for old Macintoshes",
            mapped(json!({"email": "Email"}), json!({"n": "Note"}), None),
            "Email,Note\ra@x.com,\"two\nlines\"\rb@x.com,one\r",
            vec![("a@x.com", None, json!({"n": "two\nlines"})), ("b@x.com", None, json!({"n": "one"}))],
        ),
        export(
            "Serial days of Excel",
            mapped(json!({"id": "id"}), json!({"d": {"column": "d", "type": "date"}}), Some(json!({"column": "t"}))),
            "id,d,t\n7,46027,46027.5\n",
            vec![("7", Some("2026-01-05T12:00:00Z"), json!({"d": "2026-01-05"}))],
        ),
    ]
}

fn programs() -> Vec<Export> {
    vec![
        export(
            "MySQL, INTO OUTFILE",
            json!({ "event": {"name": "E"}, "header": false, "columns": ["id", "email", "note", "at"], "identifiers": {"user_id": "id", "email": "email"}, "properties": ["note"], "time": {"column": "at"} }),
            "1\ta@x.com\tline\\\nbreak\t2026-01-05 10:00:00\n2\t\\N\ttab\\\there\t2026-01-06 10:00:00\n"
                .replace("\\\n", "\\n")
                .replace("\\\t", "\\t"),
            vec![
                ("a@x.com", Some("2026-01-05T10:00:00Z"), json!({"note": "line\\nbreak"})),
                ("2", Some("2026-01-06T10:00:00Z"), json!({"note": "tab\\there"})),
            ],
        ),
        export(
            "PostgreSQL, COPY",
            mapped(
                json!({"user_id": "id"}),
                json!({"ok": {"column": "ok", "type": "boolean"}, "j": "j"}),
                Some(json!({"column": "at"})),
            ),
            "id,ok,j,at\n1,t,\"{\"\"a\"\": 1}\",2026-01-05 10:00:00.123456+00\n2,f,,2026-01-05 10:00:00+05:30\n",
            vec![
                ("1", Some("2026-01-05T10:00:00.123Z"), json!({"ok": true, "j": "{\"a\": 1}"})),
                ("2", Some("2026-01-05T04:30:00Z"), json!({"ok": false})),
            ],
        ),
        export(
            "pandas, ids beside empty cells",
            mapped(json!({"user_id": "user"}), json!({"n": number("n")}), Some(json!({"column": "at"}))),
            ",user,n,at\n0,5001.0,NaN,2026-01-05 10:00:00+00:00\n1,5002.0,1.5,2026-01-06\n",
            vec![
                ("5001", Some("2026-01-05T10:00:00Z"), json!({})),
                ("5002", Some("2026-01-06T00:00:00Z"), json!({"n": 1.5})),
            ],
        ),
        export(
            "Shopify, orders",
            mapped(
                json!({"email": "Email"}),
                json!({"total": number("Total"), "zip": "Billing Zip"}),
                Some(json!({"column": "Created at"})),
            ),
            "Name,Email,Total,Created at,Billing Zip,Notes\n#1001,a@x.com,19.90,2026-01-05 10:00:00 -0500,'02134,\"ring\n\"\"twice\"\"\"\n",
            vec![("a@x.com", Some("2026-01-05T15:00:00Z"), json!({"total": 19.9, "zip": "02134"}))],
        ),
        export(
            "HubSpot, contacts",
            mapped(
                json!({"email": "Email"}),
                json!({"score": number("Score"), "made": {"column": "Create Date", "type": "time"}}),
                None,
            ),
            "\"Record ID\",\"Email\",\"Score\",\"Create Date\"\n\"51\",\"a@x.com\",\"12\",\"2026-01-05 10:00\"\n\"52\",\"b@x.com\",\"\",\"\"\n",
            vec![("a@x.com", None, json!({"score": 12, "made": "2026-01-05T10:00:00Z"})), ("b@x.com", None, json!({}))],
        ),
    ]
}

fn apis() -> Vec<Export> {
    vec![
        export(
            "Salesforce, a report with a title before its header",
            json!({ "event": {"name": "E"}, "columns": ["email", "amount"], "identifiers": {"email": "email"}, "properties": {"amount": number("amount")} }),
            ",,\nEmail,Amount\na@x.com,\"USD 1,234.50\"\n",
            vec![("a@x.com", None, json!({"amount": 1234.5}))],
        ),
        export(
            "Stripe, an answer of the API",
            mapped(json!({"customer": "customer"}), json!({"amount": "amount"}), Some(json!({"column": "created"}))),
            "{\"object\":\"list\",\"url\":\"/v1/charges\",\"has_more\":false,\"data\":[{\"id\":\"ch_1\",\"customer\":\"cus_1\",\"amount\":1990,\"created\":1767607200,\"refunds\":{\"data\":[{\"id\":1}]}}]}",
            vec![("cus_1", Some("2026-01-05T10:00:00Z"), json!({"amount": 1990}))],
        ),
        export(
            "Shopify, an answer of GraphQL",
            mapped(
                json!({"email": "node.email"}),
                json!({"total": "node.total.amount"}),
                Some(json!({"column": "node.createdAt"})),
            ),
            "{\"data\":{\"orders\":{\"edges\":[{\"node\":{\"email\":\"a@x.com\",\"createdAt\":\"2026-01-05T10:00:00Z\",\"total\":{\"amount\":\"19.90\"}}}],\"pageInfo\":{\"hasNextPage\":false}}},\"extensions\":{\"cost\":{\"actual\":3}}}",
            vec![("a@x.com", Some("2026-01-05T10:00:00Z"), json!({"total": "19.90"}))],
        ),
        export(
            "mongoexport",
            mapped(json!({"email": "email"}), json!({"n": number("n")}), Some(json!({"column": "at"}))),
            "{\"_id\":{\"$oid\":\"6\"},\"email\":\"a@x.com\",\"at\":{\"$date\":{\"$numberLong\":\"1767607200000\"}},\"n\":1.5}\n{\"email\":\"b@x.com\",\"at\":{\"$date\":\"2026-01-05T10:00:00.000Z\"},\"n\":null}\n",
            vec![
                ("a@x.com", Some("2026-01-05T10:00:00Z"), json!({"n": 1.5})),
                ("b@x.com", Some("2026-01-05T10:00:00Z"), json!({})),
            ],
        ),
        export(
            ".NET, dates of its own",
            mapped(json!({"id": "Id"}), json!({}), Some(json!({"column": "At"}))),
            "[{\"Id\":7,\"At\":\"/Date(1767607200000+0100)/\"},{\"Id\":8.0,\"At\":\"\\/Date(1767607200000)\\/\"}]",
            vec![("7", Some("2026-01-05T10:00:00Z"), json!({})), ("8", Some("2026-01-05T10:00:00Z"), json!({}))],
        ),
        export(
            "Google Sheets",
            mapped(
                json!({"email": "Email Address"}),
                json!({"ok": {"column": "Subscribed?", "type": "boolean"}}),
                Some(json!({"column": "Timestamp"})),
            ),
            "Timestamp,Email Address,Subscribed?\n1/13/2026 15:04:05,a@x.com,TRUE\n1/5/2026 9:04:05,b@x.com,FALSE\n",
            vec![
                ("a@x.com", Some("2026-01-13T15:04:05Z"), json!({"ok": true})),
                ("b@x.com", Some("2026-01-05T09:04:05Z"), json!({"ok": false})),
            ],
        ),
        export(
            "An Oracle spool",
            mapped(json!({"user_id": "ID"}), json!({"a": number("AMOUNT")}), Some(json!({"column": "AT"}))),
            "\"ID\"|\"AMOUNT\"|\"AT\"\n1|.5|05-JAN-26 10.00.00.000000 AM\n2|-.25|06-JAN-26 03.30.00 PM\n",
            vec![
                ("1", Some("2026-01-05T10:00:00Z"), json!({"a": 0.5})),
                ("2", Some("2026-01-06T15:30:00Z"), json!({"a": -0.25})),
            ],
        ),
    ]
}

#[test]
fn exports_of_many_programs_and_countries_are_read_as_they_are_meant() {
    let exports: Vec<Export> =
        [europe(), rest_of_europe(), asia(), america(), programs(), apis()].into_iter().flatten().collect();
    assert!(exports.len() >= 30, "{}", exports.len());
    let mut wrong = Vec::new();
    for Export { name, config, body, events } in exports {
        let received = match receive(&config, body) {
            Ok(received) => received,
            Err(rejection) => {
                wrong.push(format!("{name}: {} {}", rejection.code, rejection.message));
                continue;
            }
        };
        wrong.extend(
            received.rejected.iter().map(|row| format!("{name}: line {} {} {}", row.place, row.code, row.message)),
        );
        if received.events.len() != events.len() {
            wrong.push(format!("{name}: {} events, {} are meant", received.events.len(), events.len()));
            continue;
        }
        for (event, (id, time, properties)) in received.events.iter().zip(&events) {
            let found: Value = serde_json::from_str(&event.properties).unwrap_or_else(|_| json!({}));
            let time = time.map(|time| kith_plugin_sdk::time::parse_rfc3339(time).unwrap());
            let is_same = |(key, value): (&String, &Value)| match (value.as_f64(), found[key].as_f64()) {
                (Some(one), Some(other)) => one == other,
                _ => *value == found[key],
            };
            let wanted = properties.as_object().unwrap();
            let are_same = found.as_object().unwrap().len() == wanted.len() && wanted.iter().all(is_same);
            if event.identifiers[0].value != *id || event.time != time || !are_same {
                wrong.push(format!(
                    "{name}: {:?} {:?} {} in the place of {id} {time:?} {properties}",
                    event.identifiers, event.time, event.properties
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
