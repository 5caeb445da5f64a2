import LetheCommands

@main
struct Main {
  static func main() async {
    await Lethe.mainExitingWithStatus()
  }
}
