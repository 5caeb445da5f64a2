/// Cases of event triggers that stop a run.
extension RehearsalCase {
  static let eventTriggers: [RehearsalCase] = [
    ("ddl_command_start", "", ["Lethe's CREATE TABLE", "shop.never raised an error", "never"]),
    ("ddl_command_end", "WHEN TAG IN ('CREATE TABLE')", ["Lethe's CREATE TABLE", "never"]),
    (
      "ddl_command_start", "WHEN TAG IN ('CREATE TABLE AS')",
      ["CREATE TABLE AS is refused", "never"]
    ),
    ("ddl_command_start", "WHEN TAG IN ('ALTER TABLE')", ["ALTER TABLE is refused", "never"]),
  ].map { event, tags, parts in
    RehearsalCase(
      name: "an event trigger on \(event) \(tags)",
      setupSQL: """
        CREATE FUNCTION shop.never() RETURNS event_trigger LANGUAGE plpgsql AS
          $$ BEGIN RAISE EXCEPTION 'not here'; END $$;
        CREATE EVENT TRIGGER never ON \(event) \(tags) EXECUTE FUNCTION shop.never()
        """, messageParts: [parts], remedy: "in the schema lethe")
  }
}
