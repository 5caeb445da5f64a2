internal import SystemPackage

/// The path of the checkout that these tests were built from.
public let repositoryRootPath: String = repositoryRoot.string

private let repositoryRoot: FilePath = {
  var path = FilePath(#filePath)
  for _ in ["RepositoryRoot.swift", "TestFiles", "Tests"] { path.removeLastComponent() }
  return path
}()
