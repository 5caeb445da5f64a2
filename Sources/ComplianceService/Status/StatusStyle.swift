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
      margin: 0 auto; max-width: 78rem; padding: 1.5rem; background: var(--back); color: var(--text);
      font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
    }
    h1 { font-size: 1.4rem; margin: 0; }
    h2 { font-size: 1.05rem; margin: 0 0 .5rem; }
    header p { margin: 0; }
    header p, small, .none, footer { color: var(--faint); font-weight: normal; }
    section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.2rem; margin-top: 1rem; }
    .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .8rem; list-style: none; padding: 0; margin: 1rem 0 0; }
    .tiles li { background: var(--card); border: 1px solid var(--line); border-left: 4px solid var(--tone); border-radius: 10px; padding: .6rem 1rem; color: var(--faint); }
    .tiles b { display: block; font-size: 1.6rem; line-height: 1.2; color: var(--text); }
    .wide { overflow-x: auto; }
    table { border-collapse: collapse; width: 100%; }
    th { text-align: left; color: var(--faint); font-weight: 500; font-size: .85em; }
    th, td { padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; vertical-align: baseline; unicode-bidi: isolate; }
    tbody tr:last-child td { border-bottom: 0; }
    .n { text-align: right; font-variant-numeric: tabular-nums; }
    .id { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .9em; }
    .why { white-space: normal; color: var(--red); }
    .pill { color: var(--tone); border: 1px solid var(--tone); border-radius: 99px; padding: 0 .6em; font-size: .85em; }
    .created { --tone: var(--amber); }
    .in_progress { --tone: var(--blue); }
    .complete, .s2 { --tone: var(--green); }
    .failed, .s5, .s0 { --tone: var(--red); }
    .expired, .s3 { --tone: var(--gray); }
    .s4 { --tone: var(--amber); }
    .served { margin-right: 1rem; }
    progress { width: 9rem; accent-color: var(--blue); vertical-align: middle; }
    .newest { margin: .8rem 0 0; padding-left: 1.2rem; }
    footer { margin-top: 1rem; }
    footer a { color: inherit; margin-right: 1rem; }

    """
}
