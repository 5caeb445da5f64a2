extension StatusPage {
  static let style: HTML = """

    :root {
      color-scheme: light dark;
      --back: #f6f7f9; --card: #fff; --text: #1d2733; --faint: #5d6b7a; --line: #e1e6ec;
      --blue: #1d6fd1; --green: #1a7f4b; --amber: #96600a; --red: #b3261e; --gray: #5d6b7a;
    }
    @media (prefers-color-scheme: dark) {
      :root {
        --back: #12161b; --card: #1b2128; --text: #e4e9ee; --faint: #96a3b0; --line: #2c353f;
        --blue: #6cb1ff; --green: #5fd093; --amber: #eab15a; --red: #ff8a80; --gray: #96a3b0;
      }
    }
    * { box-sizing: border-box; }
    body {
      margin: 0 auto; max-width: 84rem; padding: clamp(.75rem, 3vw, 1.5rem); background: var(--back); color: var(--text);
      font: .9375rem/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; overflow-wrap: anywhere;
    }
    h1 { font-size: 1.4rem; margin: 0; }
    h2 { font-size: 1.05rem; margin: 0 0 .5rem; }
    header p { margin: 0; }
    header p, small, .none, footer { color: var(--faint); font-weight: normal; }
    a { color: inherit; }
    :focus-visible { outline: 3px solid var(--blue); outline-offset: 2px; }
    #notice { position: sticky; top: 0; z-index: 1; margin: 1rem 0 0; padding: .6rem 1rem; background: var(--card); border: 2px solid var(--red); border-radius: 10px; }
    #notice:empty { border: 0; margin: 0; padding: 0; }
    section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.2rem; margin-top: 1rem; }
    .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(6.5rem, 1fr)); gap: .8rem; list-style: none; padding: 0; margin: 1rem 0 0; }
    .tiles li { background: var(--card); border: 1px solid var(--line); border-left: 4px solid var(--tone); border-radius: 10px; padding: .6rem 1rem; color: var(--faint); }
    .tiles b { display: block; font-size: 1.6rem; line-height: 1.2; color: var(--text); }
    table { border-collapse: collapse; width: 100%; }
    th { text-align: left; color: var(--faint); font-weight: 500; font-size: .85em; }
    th, td { padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; vertical-align: baseline; }
    th:last-child, td:last-child { padding-right: 0; }
    tbody tr:last-child td { border-bottom: 0; }
    td.free { white-space: normal; min-width: 13rem; }
    td.name { width: 25%; max-width: 0; }
    .cut { display: block; overflow: hidden; text-overflow: ellipsis; }
    .n { text-align: right; font-variant-numeric: tabular-nums; }
    .id { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .9em; }
    th.id { font: inherit; font-weight: 500; font-size: .85em; }
    .why { color: var(--red); }
    .pill { color: var(--tone); border: 1px solid var(--tone); border-radius: 99px; padding: 0 .6em; font-size: .85em; white-space: nowrap; }
    .created { --tone: var(--amber); }
    .in_progress { --tone: var(--blue); }
    .complete, .s2 { --tone: var(--green); }
    .failed, .s5, .s0 { --tone: var(--red); }
    .cancelled, .expired, .s1, .s3 { --tone: var(--gray); }
    .s4 { --tone: var(--amber); }
    .served { display: inline-block; margin-right: 1rem; }
    progress { width: 7rem; max-width: 60%; accent-color: var(--blue); vertical-align: middle; }
    .newest { margin: .8rem 0 0; padding-left: 2.2rem; }
    footer { margin-top: 1rem; }
    footer a { display: inline-block; padding: .7rem .6rem; min-width: 2.75rem; text-align: center; }
    noscript a { display: inline-block; padding: .7rem 0; }

    /* The screen is too narrow for a table, so each row becomes a card. */
    @media (max-width: 72rem) {
      table, tbody, td { display: block; }
      thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
      tbody { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); gap: .8rem; }
      tr { display: block; border: 1px solid var(--line); border-radius: 8px; padding: .4rem .8rem; }
      td, td.name, td.free, td.n { position: relative; width: auto; min-width: 0; max-width: none; border: 0; padding: .15rem 0 .15rem 7rem; min-height: 1.8rem; white-space: normal; text-align: left; }
      td::before { content: attr(data-title); content: attr(data-title) / ""; position: absolute; left: 0; width: 6.5rem; color: var(--faint); font: .85rem/1.75 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
    }
    @media (max-width: 30rem) {
      section { padding: .8rem .6rem; }
      .tiles { grid-template-columns: repeat(auto-fit, minmax(6.5rem, 1fr)); gap: .5rem; }
      .tiles li { padding: .4rem .7rem; }
    }

    """
}
