//! Names of months and days in the languages of exports. Leaves where a name stands in a date to `time`.
//!
//! Names are compared without case, accents and a point at their end, so that `Févr.`, `fevr` and `FÉVR` are one.

use std::borrow::Cow;

/// For each month its names: in full and short, in English, German, French, Spanish, Italian, Portuguese, Dutch, Polish (as named
/// and as in dates), Swedish, Danish, Norwegian, Czech, Finnish, Turkish, Romanian, Hungarian and Russian (as in dates and short).
/// All stand as [`fold`] makes them.
/// A name that two languages give to different months (Czech and Polish `listopad` beside Croatian) is the one of these languages.
const MONTHS: [&str; 12] = [
    "january januar janner janvier enero gennaio janeiro januari styczen stycznia tammikuu tammikuuta leden ledna ocak \
     ianuarie января январь jan janv ene gen sty led oca ian янв tammi",
    "february februar feber fevrier febrero febbraio fevereiro februari luty lutego helmikuu helmikuuta unor unora \
     subat februarie февраля февраль feb febr fevr fev lut uno sub фев февр helmi",
    "march marz mars marzo marco maart marzec marca marts marcius marc maaliskuu maaliskuuta brezen brezna mart martie марта март mar mrz \
     mrt bre мар maalis",
    "april avril abril aprile kwiecien kwietnia aprilis huhtikuu huhtikuuta duben dubna nisan aprilie апреля апрель apr avr \
     abr kwi dub nis апр huhti",
    "may mai mayo maggio maio mei maj maja majus toukokuu toukokuuta kveten kvetna mayis мая май mag kve touko",
    "june juni juin junio giugno junho czerwiec czerwca junius kesakuu kesakuuta cerven cervna haziran iunie июня июнь jun \
     giu cze cvn haz iun июн kesa",
    "july juli juillet julio luglio julho lipiec lipca julius heinakuu heinakuuta cervenec cervence temmuz iulie июля июль \
     jul juil lug lip cvc tem iul июл heina",
    "august aout agosto augustus augusti augusztus sierpien sierpnia elokuu elokuuta srpen srpna agustos августа август aug agos \
     ago sie srp agu авг elo",
    "september septembre septiembre setiembre settembre setembro wrzesien wrzesnia szeptember szept syyskuu syyskuuta zari eylul \
     septembrie сентября сентябрь sep sept set wrz zar eyl сен сент syys",
    "october oktober octobre octubre ottobre outubro pazdziernik pazdziernika paz lokakuu lokakuuta rijen rijna ekim \
     octombrie октября октябрь oct okt ott out rij eki окт loka",
    "november novembre noviembre novembro listopad listopada listopadu marraskuu marraskuuta kasim noiembrie ноября ноябрь nov \
     lis kas noi ноя нояб marras",
    "december dezember decembre diciembre dicembre dezembro desember des grudzien grudnia joulukuu joulukuuta prosinec prosince \
     aralik decembrie декабря декабрь dec dez dic gru pro ara дек joulu",
];

/// Names of days, which say nothing that the date does not.
const DAYS: &str = "monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs fri sat sun montag \
    dienstag mittwoch donnerstag freitag samstag sonnabend sonntag mo di mi do fr sa so lundi mardi mercredi jeudi \
    vendredi samedi dimanche lun mer jeu ven sam dim lunes martes miercoles jueves viernes sabado domingo mie jue vie \
    sab dom lunedi martedi mercoledi giovedi venerdi sabato domenica gio segunda terca quarta quinta sexta segunda- \
    feira terca-feira quarta-feira quinta-feira sexta-feira seg ter qua qui sex feira maandag dinsdag woensdag \
    donderdag vrijdag zaterdag zondag ma wo vr za zo poniedzialek wtorek sroda czwartek piatek sobota niedziela pon pn \
    wt sr czw pt sob nd niedz mandag tisdag onsdag torsdag fredag lordag sondag man tis ons tors tor fre lor son \
    tirsdag tir tirs pondeli utery streda ctvrtek patek nedele po ut st ct pa ne maanantai tiistai keskiviikko torstai \
    perjantai lauantai sunnuntai maanantaina tiistaina keskiviikkona torstaina perjantaina lauantaina sunnuntaina ti \
    ke to pe la su pazartesi sali carsamba persembe cuma cumartesi pazar pzt sal car per cum cmt luni marti \
    miercuri joi vineri sambata duminica vin dum hetfo kedd szerda csutortok pentek szombat vasarnap понедельник вторник среда четверг пятница суббота воскресенье пн вт ср чт пт \
    сб вс";

/// The text as names are compared: in lower case, without accents.
pub(crate) fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for letter in text.chars().flat_map(char::to_lowercase) {
        match letter {
            'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ą' | 'ă' => folded.push('a'),
            'ç' | 'ć' | 'č' => folded.push('c'),
            'è' | 'é' | 'ê' | 'ë' | 'ę' | 'ě' => folded.push('e'),
            'ğ' => folded.push('g'),
            'ì' | 'í' | 'î' | 'ï' | 'ı' => folded.push('i'),
            'ł' => folded.push('l'),
            'ñ' | 'ń' | 'ň' => folded.push('n'),
            'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ø' => folded.push('o'),
            'ř' => folded.push('r'),
            'ś' | 'š' | 'ş' | 'ș' => folded.push('s'),
            'ț' | 'ţ' | 'ť' => folded.push('t'),
            'ù' | 'ú' | 'û' | 'ü' | 'ů' => folded.push('u'),
            'ý' | 'ÿ' => folded.push('y'),
            'ź' | 'ż' | 'ž' => folded.push('z'),
            '\u{300}'..='\u{36f}' => {} // an accent that stands by itself
            letter => folded.push(letter),
        }
    }
    folded
}

/// The text without a day of the week of Chinese, Japanese or Korean, which stands against the date without a blank and is written
/// with the signs of one: `1991年1月18日金曜日`.
pub(crate) fn without_weekday(text: &str) -> Cow<'_, str> {
    const WRITTEN: [(&str, &str, &str); 7] = [
        ("", "月火水木金土日", "曜日"),
        ("", "월화수목금토일", "요일"),
        ("星期", "一二三四五六日天", ""),
        ("礼拜", "一二三四五六日天", ""),
        ("禮拜", "一二三四五六日天", ""),
        ("周", "一二三四五六日", ""),
        ("週", "一二三四五六日", ""),
    ];
    for (before, signs, behind) in WRITTEN {
        if text.is_ascii() || !text.contains(if before.is_empty() { behind } else { before }) {
            continue;
        }
        for sign in signs.chars() {
            let day = format!("{before}{sign}{behind}");
            if text.contains(&day) {
                return Cow::Owned(text.replacen(&day, " ", 1));
            }
        }
    }
    Cow::Borrowed(text)
}

/// The month (from 1) that a folded word names.
pub(crate) fn month(folded: &str) -> Option<i64> {
    let word = folded.strip_suffix('.').unwrap_or(folded);
    let is_named = |names: &&str| names.split_ascii_whitespace().any(|name| name == word);
    if word.is_empty() { None } else { MONTHS.iter().position(is_named).map(|at| at as i64 + 1) }
}

/// Whether a folded word names a day of the week.
pub(crate) fn is_weekday(folded: &str) -> bool {
    let word = folded.strip_suffix('.').unwrap_or(folded);
    DAYS.split_ascii_whitespace().any(|name| name == word)
}
