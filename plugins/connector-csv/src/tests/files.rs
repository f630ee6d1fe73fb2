//! Files as office programs, databases and shops write them.

use proptest::prelude::*;

use super::*;

fn orders(more: Value) -> Value {
    let mut config = json!({
        "event": { "name": "O" },
        "identifiers": { "user_id": "id" },
        "properties": { "total": { "column": "total", "type": "number" }, "q": { "column": "q", "type": "integer" } },
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

fn properties(received: &Received) -> Vec<Value> {
    received.events.iter().map(|event| serde_json::from_str(&event.properties).unwrap()).collect()
}

#[test]
fn numbers_are_read_or_set_aside_but_never_wrong() {
    let body = "id,total,q\n1,\"1.234,50\",1\n1,\"1,234.50\",1\n1,19.99 EUR,1\n1,5,12.0\n";
    let received = receive(&orders(json!({})), body).unwrap();
    assert_eq!(received.rejected, []);
    let expected = [
        json!({"total": 1234.5, "q": 1}),
        json!({"total": 1234.5, "q": 1}),
        json!({"total": 19.99, "q": 1}),
        json!({"total": 5, "q": 12}),
    ];
    assert_eq!(properties(&received), expected);

    // Nothing in this column shows what the sign means.
    let alone = receive(&orders(json!({})), "id;total;q\n1;1.234;1\n2;2.500;1\n").unwrap();
    assert_eq!(
        (alone.events.len(), codes(&alone.rejected)),
        (0, vec![(2, "ambiguous-number"), (3, "ambiguous-number")])
    );
    assert!(alone.rejected[0].message.contains("set `decimal`"), "{}", alone.rejected[0].message);
    assert!(note(&alone, "column total").unwrap().contains("2 ambiguous"));

    // A later value shows it, for those before it too.
    let shown = receive(&orders(json!({})), "id;total;q\n1;1.234;1\n2;2.500,75;1\n").unwrap();
    assert_eq!(properties(&shown), [json!({"total": 1234, "q": 1}), json!({"total": 2500.75, "q": 1})]);
    assert_eq!(note(&shown, "column total"), Some("decimal comma, as in `2.500,75`"));
    assert_eq!(note(&shown, "delimiter"), Some("`;`, found"));

    let set = receive(&orders(json!({"decimal": ","})), "id;total;q\n1;1.234;1\n").unwrap();
    assert_eq!(properties(&set)[0]["total"], json!(1234));
    let per_column = json!({
        "event": { "name": "O" }, "identifiers": { "user_id": "id" }, "decimal": ".",
        "properties": { "total": { "column": "total", "type": "number", "decimal": "," }, "rate": { "column": "rate", "type": "number", "percent": "fraction" } },
    });
    let received = receive(&per_column, "id;total;rate\n1;1.234;1.234\n2;1;19%\n").unwrap();
    assert_eq!(properties(&received), [json!({"total": 1234, "rate": 1.234}), json!({"total": 1, "rate": 0.19})]);
}

#[test]
fn what_the_beginning_shows_holds_for_all_pieces() {
    let mut body = "id;total;q;when\n1;2.500,75;1;13/01/2026\n".to_owned();
    for id in 0..200 {
        body.push_str(&format!("{id};{}.{:03};1;0{}/02/2026\n", 1 + id % 9, id % 1000, 1 + id % 9));
    }
    let config = orders(json!({ "time": { "column": "when" } }));
    let whole = receive_in_pieces(&config, body.as_bytes(), &[]);
    assert_eq!((whole.0.len(), whole.1.len()), (201, 0));
    assert!(whole.0[100].properties.contains("1099") || whole.0[100].properties.contains("\"total\":"));
    for step in [1, 17, 199, 200, 201, 1000] {
        let cuts: Vec<usize> = (0..body.len()).step_by(step).collect();
        assert_eq!(receive_in_pieces(&config, body.as_bytes(), &cuts), whole, "pieces of {step}");
    }
}

#[test]
fn dates_are_read_or_set_aside_but_never_wrong() {
    let config = json!({ "event": { "name": "E" }, "identifiers": { "user_id": "id" }, "time": { "column": "t" } });
    let alone = receive(&config, "id,t\n1,05/01/2026\n2,06/01/2026\n3,07/07/2026\n").unwrap();
    assert_eq!((alone.events.len(), codes(&alone.rejected)), (1, vec![(2, "ambiguous-time"), (3, "ambiguous-time")]));
    assert!(
        alone.rejected[0].message.contains("2026-01-05 with the day first and 2026-05-01 with the month first"),
        "{}",
        alone.rejected[0].message
    );
    let shown = receive(&config, "id,t\n1,05/01/2026\n2,13/01/2026\n").unwrap();
    assert_eq!(shown.events[0].time, Some(1_767_571_200_000));
    assert_eq!(note(&shown, "column t"), Some("day first, as in `13/01/2026`"));
    let both = receive(&config, "id,t\n1,05/01/2026\n2,13/01/2026\n3,01/14/2026\n").unwrap();
    assert_eq!((both.events.len(), codes(&both.rejected)), (2, vec![(2, "ambiguous-time")]));
    let mut set = config.clone();
    set["time"]["order"] = json!("month-first");
    assert_eq!(receive(&set, "id,t\n1,05/01/2026\n").unwrap().events[0].time, Some(1_777_593_600_000));
    let mut zone = config.clone();
    zone["time"]["zone"] = json!("Europe/Berlin");
    let times = receive(&zone, "id,t\n1,2026-01-05 10:00:00\n2,2026-07-05 10:00:00\n").unwrap();
    assert_eq!(times.events[0].time, Some(1_767_603_600_000), "winter");
    assert_eq!(times.events[1].time, Some(1_783_238_400_000), "summer");
    let mut unix = config;
    unix["time"]["formats"] = json!(["unix"]);
    assert_eq!(receive(&unix, "id,t\nb,1704448800000\n").unwrap().events[0].time, Some(1_704_448_800_000));
}

/// A text in the encoding of this name.
fn encoded(name: &str, text: &str) -> Vec<u8> {
    match crate::encoding::named(name).unwrap() {
        crate::charset::Charset::Standard(encoding) => {
            let (body, _, had_errors) = encoding.encode(text);
            assert!(!had_errors, "{name}");
            body.into_owned()
        }
        crate::charset::Charset::Dos(page) => page.encode(text).unwrap(),
    }
}

#[test]
fn every_encoding_is_read_and_found_where_it_can_be() {
    let config = json!({ "event": { "name": "A" }, "identifiers": { "name": "name" } });
    let names = |received: &Received| -> Vec<String> {
        received.events.iter().map(|event| event.identifiers[0].value.clone()).collect()
    };
    let texts = [
        ("gb18030", "客户名称是张伟和王芳，他们住在北京市朝阳区，电话号码没有登记"),
        ("gbk", "我们的产品价格包括税费，请在收到发票后三十天之内付款，谢谢合作"),
        ("big5", "臺灣的客戶請填寫姓名與地址，我們會在三個工作天內回覆您的訂單問題"),
        ("shift_jis", "お客様の名前は山田太郎で、東京都千代田区に住んでいます。ご注文ありがとうございます"),
        ("euc-jp", "日本語の文字コードを調べています。これはテストのための文章です。よろしくお願いします"),
        ("iso-2022-jp", "これはメールで使われる文字コードです。東京と大阪の間を新幹線で移動します"),
        ("euc-kr", "고객의 이름은 김철수이고 서울특별시에 살고 있습니다. 주문해 주셔서 감사합니다"),
        ("windows-1251", "Клиент Иван Петров живёт в Москве и заказал три книги по истории"),
        ("koi8-r", "Это письмо написано в старой кодировке, которую любили в девяностых годах"),
        ("windows-1252", "Zoë Müller-Lüdenscheidt wohnt in der Königsstraße und grüßt die Größe"),
        ("windows-1250", "Příliš žluťoučký kůň úpěl ďábelské ódy a další věty v češtině"),
        ("iso-8859-2", "Zażółć gęślą jaźń i inne polskie słowa z ogonkami, które są długie"),
        ("windows-1253", "Ο πελάτης μένει στην Αθήνα και παρήγγειλε τρία βιβλία για την ιστορία"),
        ("windows-1254", "Müşteri İstanbul'da yaşıyor ve üç kitap sipariş etti, çok teşekkür ederiz"),
        ("windows-1255", "הלקוח גר בתל אביב והזמין שלושה ספרים על ההיסטוריה של העיר"),
        ("windows-1256", "العميل يعيش في القاهرة وطلب ثلاثة كتب عن التاريخ القديم"),
        ("windows-874", "ลูกค้าอาศัยอยู่ในกรุงเทพมหานครและสั่งซื้อหนังสือสามเล่ม"),
        ("windows-1257", "Klientas gyvena Vilniuje ir užsakė tris knygas apie istoriją, ačiū"),
        ("ibm866", "Документ из старой программы для учёта товаров на складе"),
        ("macintosh", "Käufer möchte große Bücher"),
        ("macroman", "Käufer möchte große Bücher"),
        ("mac_roman", "Café crème à la fraise"),
        ("cp850", "Käufer möchte große Bücher"),
        ("ibm850", "Señor Núñez compró ¾ de café"),
        ("cp437", "Größe in µm ± ½"),
        ("cp852", "Příliš žluťoučký kůň"),
        ("cp858", "Prix: 5 €, déjà payé"),
        ("x-mac-cyrillic", "Покупатель хочет книги"),
    ];
    for (label, text) in texts {
        let body = encoded(label, text);
        let mut file = b"name\n".to_vec();
        file.extend_from_slice(&body);
        file.push(b'\n');
        let mut set = config.clone();
        set["encoding"] = json!(label);
        assert_eq!(names(&receive(&set, file.clone()).unwrap()), [text], "{label}");
        // Bytes of these are those of other encodings of the same script.
        if !["cp", "mac", "x-mac", "ibm850"].iter().any(|begin| label.starts_with(begin)) {
            let found = receive(&config, file).unwrap();
            assert_eq!(found.rejected, [], "{label}");
            assert_eq!(names(&found), [text], "{label} is found: {:?}", found.notes);
            let is_guess = note(&found, "encoding").unwrap().contains("a guess");
            assert_eq!(is_guess, label != "iso-2022-jp", "{:?}", found.notes);
        }
    }
    let utf16: Vec<u8> = "name;x\r\nZoë;1\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(names(&receive(&config, utf16).unwrap()), ["Zoë"]);
    for wrong in ["utf-7", "ebcdic", "replacement", ""] {
        let mut set = config.clone();
        set["encoding"] = json!(wrong);
        assert!(receive(&set, "name\na\n").unwrap_err().message.contains("none of the WHATWG"), "{wrong}");
    }
    // One damaged line makes a file of UTF-8 no other.
    let damaged = b"name\nZo\xc3\xab\nJos\xc3\xa9\nZo\xeb\n";
    let received = receive(&config, damaged.as_slice()).unwrap();
    assert_eq!((names(&received).len(), codes(&received.rejected)), (2, vec![(4, "undecodable")]));
}

#[test]
fn shapes_of_office_programs_and_databases_are_read() {
    let config = json!({ "kind": "identify", "identifiers": { "user_id": "id" }, "traits": { "note": "note" } });
    let notes = |body: &[u8]| -> Vec<(String, String)> {
        let received = receive(&config, body).unwrap();
        assert_eq!(received.rejected, [], "{}", String::from_utf8_lossy(body));
        received.events.into_iter().map(|event| (event.identifiers[0].value.clone(), event.traits)).collect()
    };
    let one = vec![("1".to_owned(), "{\"note\":\"2\"}".to_owned())];
    for body in [
        "id,note\n1,2\n",
        "id;note\n1;2\n",
        "id\tnote\n1\t2\n",
        "id|note\n1|2\n",
        "sep=;\nid;note\n1;2\n",
        "SEP=,\r\nid,note\r\n1,2\r\n",
        "\u{feff}\"sep=;\"\r\nid;note\r\n1;2",
        "\u{feff}id,note\n1,2",
        "id,note\r1,2\r",
        "id,note\r1,2",
        " ID , Note \n1,2\n",
        "ID,NOTE\n1,2,,,\n",
        "\u{feff}\"id\",\"note\"\n\"1\",\"2\"\n",
    ] {
        assert_eq!(notes(body.as_bytes()), one, "{body:?}");
    }
    let mysql = b"id,note\n1,\"say \\\"hi\\\", ok\"\n2,\\N\n3,\"a\\\\b\"\n4,\"NULL\"\n";
    let expected =
        [("1", r#"{"note":"say \"hi\", ok"}"#), ("2", ""), ("3", r#"{"note":"a\\b"}"#), ("4", r#"{"note":"NULL"}"#)];
    assert_eq!(notes(mysql), expected.map(|(id, traits)| (id.to_owned(), traits.to_owned())));
    assert_eq!(notes(b"id,note\n1,\"C:\\dir\\\"\n"), [("1".to_owned(), r#"{"note":"C:\\dir\\"}"#.to_owned())]);

    let sep_but_set = json!({ "delimiter": ",", "kind": "identify", "identifiers": { "user_id": "id" } });
    assert_eq!(receive(&sep_but_set, "sep=;\nid,x\n1,2\n").unwrap().events.len(), 1, "what is set holds");
    let short = json!({ "short_rows": "fill", "kind": "identify", "identifiers": { "user_id": "id" } });
    let received = receive(&short, "id,a,b\n1\n2,x,y,z\n").unwrap();
    assert_eq!(
        (received.events.len(), codes(&received.rejected)),
        (1, vec![(3, "wrong-field-count")]),
        "no field is dropped"
    );
}

#[test]
fn a_name_that_two_columns_have_is_never_the_first() {
    let config = json!({ "kind": "identify", "identifiers": { "email": "email" } });
    for body in ["email,email\na@b.c,d@e.f\n", "Email,EMAIL\na@b.c,d@e.f\n", "email, email \na@b.c,d@e.f\n"] {
        let rejection = receive(&config, body).unwrap_err();
        assert_eq!((rejection.status, rejection.code.as_str()), (400, "duplicate-column"), "{body}");
        assert!(rejection.message.contains("columns 1 and 2"), "{}", rejection.message);
    }
    assert_eq!(receive(&config, "x,x,Email\n1,2,a@b.c\n").unwrap().events.len(), 1, "it is not used");
    assert_eq!(
        receive(&config, "EMAIL,email\n1,a@b.c\n").unwrap().events[0].identifiers[0].value,
        "a@b.c",
        "one is exact"
    );
    let second = json!({ "duplicate_columns": "number", "kind": "identify", "identifiers": { "email": "email_2" } });
    assert_eq!(receive(&second, "email,email\na@b.c,d@e.f\n").unwrap().events[0].identifiers[0].value, "d@e.f");
}

#[test]
fn json_is_read_by_lines_over_lines_and_in_arrays() {
    let config = json!({ "event": { "name": "A" }, "identifiers": { "user_id": "id" }, "properties": ["x"] });
    let objects =
        [json!({"id": "1", "x": {"a": ["]", "{"]}}), json!({"id": "2", "x": "b\"}"}), json!({"id": "3", "x": null})];
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap();
    let plain: Vec<String> = objects.iter().map(Value::to_string).collect();
    for body in [
        plain.join("\n"),
        plain.join("\r\n"),
        plain.join(",\n"),
        plain.concat(),
        format!("[{}]", plain.join(",")),
        format!("\u{feff}[\n{}\n]\n", plain.join(",\n")),
        pretty(&json!(objects)),
        objects.iter().map(pretty).collect::<Vec<_>>().join("\n"),
    ] {
        let whole = receive_in_pieces(&config, body.as_bytes(), &[]);
        let ids: Vec<&str> = whole.0.iter().map(|event| event.identifiers[0].value.as_str()).collect();
        assert_eq!((ids, &whole.1[..]), (vec!["1", "2", "3"], &[][..]), "{body}");
        let every_byte: Vec<usize> = (0..body.len()).collect();
        assert_eq!(receive_in_pieces(&config, body.as_bytes(), &every_byte), whole, "{body}");
    }
    let bad = receive(&config, "[{\"id\":1},2,{\"id\":},\n{\"id\":4}]").unwrap();
    assert_eq!((bad.events.len(), codes(&bad.rejected)), (2, vec![(1, "invalid-json"), (1, "invalid-json")]));
    let long = format!("[{{\"id\":1}},{{\"id\":2,\"x\":\"{}\"}},{{\"id\":3}}]", "y".repeat(3 * MAX_RECORD_BYTES));
    let received = receive(&config, long).unwrap();
    assert_eq!((received.events.len(), codes(&received.rejected)), (2, vec![(1, "record-too-long")]));
}

#[test]
fn what_is_no_text_is_named() {
    let config = json!({ "kind": "identify", "identifiers": { "email": "email" } });
    for (begin, word) in [
        (b"PK\x03\x04rest".as_slice(), "ZIP"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Excel"),
        (b"%PDF-1.7", "PDF"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"PAR1", "Parquet"),
        (b"\n<!DOCTYPE html><html>", "HTML"),
        (b"<?xml version='1.0'?>", "XML"),
    ] {
        let rejection = receive(&config, begin).unwrap_err();
        assert_eq!((rejection.status, rejection.code.as_str()), (415, "not-text"));
        assert!(rejection.message.contains(word), "{}", rejection.message);
    }
}

#[test]
fn rows_of_a_workbook_are_exact_where_they_are_not_quoted() {
    let config = json!({
        "delimiter": ";", "decimal": ",", "encoding": "windows-1252",
        "event": { "name": "O" }, "identifiers": { "user_id": "id" }, "time": { "column": "t", "formats": ["%d.%m.%Y"] },
        "properties": { "total": { "column": "total", "type": "number" }, "paid": { "column": "paid", "type": "boolean" }, "zip": "zip" },
    });
    let body = "\"id\",\"total\",\"paid\",\"zip\",\"t\"\n\"é\",1.234,true,\"01234\",\"2026-01-05T00:00:00\"\n\"2\",\"1.234\",\"ja\",1234,\"05.01.2026\"\n";
    let mut request = Request::post("/records", body);
    request.headers.push(("content-type".to_owned(), "application/vnd.kith.rows+csv".to_owned()));
    let received = testing::with_config(&config, || Csv::receive(request)).unwrap();
    assert_eq!(received.rejected, []);
    assert_eq!(
        properties(&received),
        [json!({"total": 1.234, "paid": true, "zip": "01234"}), json!({"total": 1234, "paid": true, "zip": 1234})]
    );
    assert_eq!(received.events[0].time, received.events[1].time);
    assert_eq!(received.events[0].identifiers[0].value, "é");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the bytes are and however they are cut, the result is the same and nothing breaks.
    #[test]
    fn any_bytes_read_the_same_in_pieces(
        parts in prop::collection::vec(prop::sample::select(vec![
            "id", ",", ";", "\n", "\r\n", "\r", "\"", "\\\"", "1.234", "1,5", "1.234,5", "05/01/2026", "13/01/2026", "é", "日本", "{", "}", "[", "]", ":", "sep=;\n", " ", "x",
        ]), 0..120),
        encoding in prop::sample::select(vec!["utf-8", "utf-16le", "utf-16be", "gb18030", "windows-1252"]),
        step in 1_usize..300,
        is_mapped: bool,
    ) {
        let text = format!("id,total,q{}\n{}", if is_mapped { "" } else { ",when" }, parts.concat());
        let encoded: Vec<u8> = match encoding {
            "utf-16le" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
            "utf-16be" => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            // Of this script it has no letters.
            "windows-1252" => encoded("windows-1252", &text.replace("日本", "ñ")),
            label => encoded(label, &text),
        };
        let mut config = orders(json!({}));
        if is_mapped {
            config["encoding"] = json!(encoding);
        }
        let length = encoded.len();
        let cuts: Vec<usize> = (0..length).step_by(step).collect();
        let whole = receive(&config, encoded.clone());
        if whole.is_ok() {
            prop_assert_eq!(receive_in_pieces(&config, &encoded, &cuts), receive_in_pieces(&config, &encoded, &[]));
        }
    }
}

/// What `kith import` makes of a workbook: a date of a cell is one that conditions read, whatever its column's type.
#[test]
fn dates_of_a_sheet_become_dates_and_times() {
    let rows = "\"id\",\"born\",\"seen\",\"note\",\"n\"\n1,\"1985-11-30\",\"2026-01-05T10:30:00\",\"2026-01-05 or so\",1.234\n";
    let config = |traits: Value| json!({ "kind": "identify", "identifiers": { "user_id": "id" }, "traits": traits, "time": { "column": "born", "zone": "Europe/Berlin" } });
    for (traits, expected) in [
        (
            json!(["born", "seen", "note", "n"]),
            r#"{"born":"1985-11-30","seen":"2026-01-05T09:30:00Z","note":"2026-01-05 or so","n":1.234}"#,
        ),
        (
            json!({ "born": { "column": "born", "type": "date" }, "seen": { "column": "seen", "type": "date" } }),
            r#"{"born":"1985-11-30","seen":"2026-01-05"}"#,
        ),
        (
            json!({ "seen": { "column": "seen", "type": "time", "zone": "America/New_York" } }),
            r#"{"seen":"2026-01-05T15:30:00Z"}"#,
        ),
        (json!({ "seen": { "column": "seen", "type": "text" } }), r#"{"seen":"2026-01-05T10:30:00"}"#),
    ] {
        let mut request = Request::post("/records", rows);
        request.headers.push(("content-type".to_owned(), "application/vnd.kith.rows+csv".to_owned()));
        let received = testing::with_config(config(traits.clone()), || Csv::receive(request)).unwrap();
        assert_eq!(received.rejected, [], "{traits}");
        let read: Value = serde_json::from_str(&received.events[0].traits).unwrap();
        assert_eq!(read, serde_json::from_str::<Value>(expected).unwrap(), "{traits}");
    }
}

#[test]
fn whole_numbers_with_a_sign_for_thousands_are_read_where_the_column_shows_it() {
    let alone = receive(&orders(json!({})), "id;total;q\n1;1;1,000\n2;1;2,500\n").unwrap();
    assert_eq!(codes(&alone.rejected), [(2, "ambiguous-number"), (3, "ambiguous-number")]);
    let shown = receive(&orders(json!({})), "id;total;q\n1;1;1,000\n2;1;1,000,000\n").unwrap();
    assert_eq!(shown.rejected, []);
    let set = receive(&orders(json!({ "thousands": "," })), "id;total;q\n1;1;1,000\n2;1;2,500\n").unwrap();
    assert!(set.rejected.is_empty() && set.events[1].properties.contains("2500"), "{:?}", set.events);
    let decimal = receive(&orders(json!({ "decimal": "," })), "id;total;q\n1;1;1,000\n2;1;2,500\n").unwrap();
    assert_eq!(codes(&decimal.rejected), [(3, "bad-number")], "1,000 is one, and 2,500 is no whole number");
}
